"""Inspect data and write a model for it: its folder in include/models, and its DAG file. The command is bin/new.

tables.py     reads the data once, in bounded memory: types, ranges, and a sample of rows
times.py      finds the time column and its format
labels.py     finds the label and its kind
leaks.py      finds columns that give the label away
roles.py      decides what each column is for
proposal.py   all of it, with the questions to a person
history.py    measures thresholds on past windows, by the night's own checks
schema.py, config.py, templates.py   the files' texts
writing.py    writes them, all or none
"""
