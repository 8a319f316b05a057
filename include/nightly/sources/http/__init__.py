"""HTTP: an API as a source, and the download of any body.

api.py            the source: slices of days, each read in one answer or in pages
pages.py          from one page to the next
rows.py           the pages of a slice as one body
json_document.py  the rows of a JSON document, one at a time
download.py       one body, with retries; transfer.py resumes and verifies it
headers.py        what a response's headers say
connection.py     what an Airflow connection says
"""

from nightly.sources.http.api import open_source

__all__ = ["open_source"]
