"""An Airflow connection as the options of the libraries that read object stores."""

import pytest

from nightly.records.connection import Connection
from nightly.sources.cloud_credentials import StoreOptions, store_options
from nightly.sources.errors import SourceError
from nightly.sources.files.stores import open_store


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "STORAGE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)


def connection(conn_type, **fields):
    return Connection.model_validate({"conn_type": conn_type, **fields})


def test_keys_of_aws_stand_in_the_login_or_in_the_extra():
    keys = {"aws_access_key_id": "id", "aws_secret_access_key": "hidden", "aws_region": "eu-central-1"}
    by_login = connection("aws", login="id", password="hidden", extra={"region_name": "eu-central-1"})
    assert store_options(by_login).options == keys
    extra = {"aws_access_key_id": "id", "aws_secret_access_key": "hidden", "region_name": "eu-central-1"}
    by_extra = connection("aws", extra=extra | {"aws_session_token": "token"})
    assert store_options(by_extra).options == keys | {"aws_session_token": "token"}
    assert "hidden" not in repr(store_options(by_login))


def test_an_endpoint_without_encryption_is_allowed_only_where_it_is_named():
    local = store_options(connection("aws", extra={"endpoint_url": "http://127.0.0.1:5000"}))
    assert local.for_delta() == {
        "aws_endpoint_url": "http://127.0.0.1:5000",
        "aws_region": "us-east-1",
        "allow_http": "true",
    }
    assert local.for_iceberg() == {"s3.endpoint": "http://127.0.0.1:5000", "s3.region": "us-east-1"}
    assert not store_options(connection("aws", extra={"endpoint_url": "https://minio.example"})).allow_http
    assert store_options(None) == StoreOptions()


def test_a_key_of_google_is_json_or_a_path():
    key = '{"type": "service_account", "private_key": "hidden"}'
    for keyfile in (key, {"type": "service_account", "private_key": "hidden"}):
        options = store_options(connection("google_cloud_platform", extra={"keyfile_dict": keyfile})).options
        assert options == {"google_service_account_key": key}
    options = store_options(connection("google_cloud_platform", extra={"key_path": "/key.json"})).options
    assert options == {"google_service_account": "/key.json"}
    for refused in ({"keyfile_dict": key}, {"key_path": "/nowhere.json"}):
        with pytest.raises(SourceError, match="Google refuses the key") as caught:
            store_options(connection("google_cloud_platform", extra=refused)).for_iceberg()
        assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"login": "account", "password": "a2V5"},
            {"azure_storage_account_name": "account", "azure_storage_account_key": "a2V5"},
        ),
        (
            {"extra": {"connection_string": "AccountName=account;AccountKey=a2V5==;BlobEndpoint=http://127.0.0.1/x"}},
            {
                "azure_storage_account_name": "account",
                "azure_storage_account_key": "a2V5==",
                "azure_storage_endpoint": "http://127.0.0.1/x",
            },
        ),
        (
            {
                "host": "https://account.blob.core.windows.net",
                "login": "app",
                "password": "hidden",
                "extra": {"tenant_id": "t"},
            },
            {
                "azure_storage_account_name": "account",
                "azure_storage_client_id": "app",
                "azure_storage_client_secret": "hidden",
                "azure_storage_tenant_id": "t",
                "azure_storage_endpoint": "https://account.blob.core.windows.net",
            },
        ),
        (
            {"login": "account", "password": "a2V5", "host": "http://127.0.0.1:10000/account"},
            {
                "azure_storage_account_name": "account",
                "azure_storage_account_key": "a2V5",
                "azure_storage_endpoint": "http://127.0.0.1:10000/account",
            },
        ),
        (
            {"extra": {"connection_string": "BlobEndpoint=https://account.x.net/;SharedAccessSignature=sv=1&sig=s"}},
            {
                "azure_storage_account_name": "account",
                "azure_storage_sas_token": "sv=1&sig=s",
                "azure_storage_endpoint": "https://account.x.net/",
            },
        ),
        (
            {"host": "account", "extra": {"extra__wasb__sas_token": "sv=1"}},
            {"azure_storage_account_name": "account", "azure_storage_sas_token": "sv=1"},
        ),
    ],
)
def test_azure_is_reached_by_a_key_a_token_a_connection_string_or_an_application(fields, expected):
    options = store_options(connection("wasb", **fields), "az")
    assert options.options == expected
    assert options.allow_http == expected.get("azure_storage_endpoint", "").startswith("http:")


def test_an_endpoint_of_aws_may_be_its_host_and_a_region_the_environment_s(monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    for fields in ({"host": "http://127.0.0.1:1"}, {"extra": {"host": "http://127.0.0.1:1"}}):
        options = store_options(connection("aws", **fields), "s3")
        assert options.options == {"aws_endpoint_url": "http://127.0.0.1:1", "aws_region": "eu-west-3"}
        assert options.allow_http
    assert store_options(None, "s3") == StoreOptions(), "the libraries read the environment themselves"


def test_the_emulator_of_cloud_storage_needs_no_connection(monkeypatch):
    assert store_options(None, "gs") == StoreOptions()
    public = store_options(connection("google_cloud_platform", extra={"is_anonymous": True}), "gs")
    assert public.options == {"google_skip_signature": "true"}
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    emulator = {"google_base_url": "http://127.0.0.1:1", "google_skip_signature": "true"}
    assert store_options(None, "gs") == StoreOptions(emulator, allow_http=True)
    assert store_options(None, "s3") == StoreOptions()


@pytest.mark.parametrize(
    ("scheme", "conn_type", "fields"),
    [
        ("s3", "aws", {"login": "id", "password": "hidden", "extra": {"aws_session_token": "t", "host": "http://x"}}),
        ("s3", "aws", {"extra": {"anonymous": True}}),
        ("gs", "google_cloud_platform", {"extra": {"is_anonymous": True}}),
        ("az", "wasb", {"login": "account", "password": "a2V5"}),
        ("az", "wasb", {"login": "account", "extra": {"sas_token": "?sv=1&sig=s"}}),
        ("az", "wasb", {"host": "account", "login": "app", "password": "hidden", "extra": {"tenant_id": "t"}}),
    ],
)
def test_obstore_takes_the_options(scheme, conn_type, fields):
    options = store_options(connection(conn_type, **fields), scheme).options
    store = open_store(scheme, "lake", connection(conn_type, **fields))
    assert len(store.config) == len(options) + 1, "the bucket's name is one, too"


@pytest.mark.parametrize(
    ("conn_type", "extra", "sentence"),
    [
        ("postgres", {}, "is of type 'postgres', which reaches no object store"),
        ("aws", {"role_arn": "arn:hidden"}, "has `role_arn` in its extra, which a source cannot use"),
        ("google_cloud_platform", {"keyfile_dict": "hidden"}, "`keyfile_dict` in the extra .* is not a JSON object"),
    ],
)
def test_what_cannot_be_used_is_said_without_its_value(conn_type, extra, sentence):
    with pytest.raises(SourceError, match=sentence) as caught:
        store_options(connection(conn_type, extra=extra))
    assert "hidden" not in str(caught.value)


def test_a_connection_of_another_cloud_is_refused():
    with pytest.raises(SourceError, match="type 'aws', which reaches no gs:// URL; use one of type google_cloud_platf"):
        store_options(connection("aws"), "gs")
