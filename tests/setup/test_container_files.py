"""The container files, as far as they can be checked without a container engine; `make test-containers` runs them."""

import ast
import json
import os
import re
import runpy
import shutil
import subprocess
import threading
import tomllib
from dataclasses import fields
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from airflow.api_fastapi.core_api.datamodels.monitor import HealthInfoResponse

from nightly.io.paths import Paths, python_path
from setup import environments
from setup.slim import slim

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_TEXT = (ROOT / "docker-compose.yaml").read_text()
COMPOSE = yaml.safe_load(COMPOSE_TEXT)
GPU_TEXT = (ROOT / "docker-compose.gpu.yaml").read_text()
BUCKET_TEXT = (ROOT / "docker-compose.bucket.yaml").read_text()
ALL_TEXT = COMPOSE_TEXT + GPU_TEXT + BUCKET_TEXT
IN_BUCKET = yaml.safe_load(BUCKET_TEXT)["services"]
SERVICES = COMPOSE["services"]
TUNING = (ROOT / "airflow.env").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SETTINGS = yaml.safe_load((ROOT / "airflow_settings.yaml").read_text())["airflow"]
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(:[-?])?([^}]*)\}")
SECRET = re.compile(r"PASSWORD$|SECRET|KEY$|CONN$|_DB$")
AIRFLOW = environments.VENVS / "airflow"


def tool(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a development tool that is installed beside this Python."""
    name, *arguments = command
    return subprocess.run([ROOT / ".venv/lint/bin" / name, *arguments], capture_output=True, text=True)


def read_env() -> dict[str, tuple[str, str]]:
    """.env.example: name -> (value, the comment above its paragraph)."""
    found, comment = {}, ""
    for line in (ROOT / ".env.example").read_text().splitlines():
        if line.startswith("#"):
            comment += line
        elif "=" in line:
            name, _, value = line.partition("=")
            found[name] = (value, comment)
        else:
            comment = ""
    return found


def airflow_options() -> dict[str, dict[str, Any]]:
    """Every section and key that the locked Airflow knows."""
    template = next(AIRFLOW.glob("lib/python3*/site-packages/airflow/config_templates/config.yml"))
    return {section: content["options"] for section, content in yaml.safe_load(template.read_text()).items()}


def celery_options() -> dict[str, Any]:
    """The keys of the section that the Celery provider adds."""
    provider = next(AIRFLOW.glob("lib/python3*/site-packages/airflow/providers/celery/get_provider_info.py"))
    return runpy.run_path(str(provider))["get_provider_info"]()["config"]["celery"]["options"]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, as (name, arguments), with continued lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.M).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def arguments(name: str) -> list[str]:
    return [given for found, given in instructions() if found == name]


# docker-compose.yaml


def test_compose_is_valid_by_the_compose_specification():
    files = sorted(ROOT.glob("docker-compose*.yaml"))
    assert len(files) == 3
    done = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", *files)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "version" not in COMPOSE


def test_every_variable_of_compose_is_explained_in_the_example_and_no_other():
    used = {name for name, _, _ in VARIABLE.findall(ALL_TEXT)}
    explained = read_env()
    assert used == set(explained)
    assert all(comment for _, comment in explained.values())


def test_what_has_no_default_is_required_by_name_and_the_others_default_to_the_example():
    for name, operator, rest in VARIABLE.findall(ALL_TEXT):
        value, _ = read_env()[name]
        assert (operator, rest) == ((":-", value) if value else (":?", "set it in .env")), name


def test_secrets_come_from_the_environment_only():
    seen = set()
    for name, service in [*SERVICES.items(), *IN_BUCKET.items()]:
        for key, value in service.get("environment", {}).items():
            if SECRET.search(key) and key != "POSTGRES_DB":
                assert re.search(r"\$\{\w+:\?", str(value)), f"{name}: {key}"
                seen.add(key)
    assert len(seen) >= 7
    assert not [line for line in DOCKERFILE.splitlines() if re.match(r"\s*(ENV|ARG).*(PASSWORD|SECRET|TOKEN)", line)]


def test_airflow_settings_exist_in_this_airflow():
    options = airflow_options()
    text = COMPOSE_TEXT + DOCKERFILE + TUNING
    used = set(re.findall(r"\bAIRFLOW__([A-Z_]+?)__([A-Z_]+)\b", text))
    assert len(used) >= 10
    unknown = [key for key in used if key[1].lower() not in options.get(key[0].lower(), {})]
    assert unknown == []


def test_airflow_is_tuned_alike_in_containers_and_without():
    """By one file, whose settings neither side sets otherwise."""
    tuning = dict(line.split("=", 1) for line in TUNING.splitlines() if line and line[0] != "#")
    script = f"source {ROOT}/bin/environment && env"
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    on_this_machine = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert tuning.items() <= on_this_machine.items()
    of_the_image = dict(re.findall(r"(AIRFLOW__\w+)=(\S+)", " ".join(arguments("ENV"))))
    assert of_the_image.items() <= tuning.items()
    assert int(tuning["AIRFLOW__CORE__PARALLELISM"]) < 32  # Airflow's default: 1 GiB of idle workers
    for name in ("init", "api-server", "scheduler", "dag-processor", "triggerer"):
        assert SERVICES[name]["env_file"] == ["airflow.env"], name
        assert not tuning.keys() & SERVICES[name]["environment"].keys(), name


def test_what_is_there_for_one_kind_of_machine_only_says_so():
    for name, service in SERVICES.items():
        assert service.get("platform") == (None if name == "postgres" else "linux/amd64"), name


def test_what_is_mounted_exists():
    for name, service in SERVICES.items():
        for mount in service.get("volumes", []):
            source, target, *_ = mount.split(":")
            if source.startswith("."):
                assert (ROOT / source).exists(), f"{name}: {source}"
                named = re.findall(rf"{target}/([\w./-]+)", " ".join(service["command"]))
                missing = [file for file in named if not (ROOT / source / file).is_file()]
                assert missing == [], f"{name} is told to read files that {source} does not hold"
            else:
                assert source in COMPOSE["volumes"], f"{name}: {source}"
        for config in service.get("configs", []):
            assert config["source"] in COMPOSE["configs"]


def test_every_service_is_checked_and_waits_for_what_it_needs():
    for name, service in SERVICES.items():
        assert ("healthcheck" in service) == (name != "init"), name
        for other, wait in service.get("depends_on", {}).items():
            condition = "service_completed_successfully" if other == "init" else "service_healthy"
            assert wait == {"condition": condition}, f"{name} waits for {other}"
            assert other in SERVICES
    parts = {"postgres", "init", "api-server", "scheduler", "dag-processor", "triggerer", "serving"}
    assert set(SERVICES) == parts


def test_releases_and_server_share_the_serving_volume():
    airflow = [mount for mount in SERVICES["scheduler"]["volumes"] if mount.startswith("serving:")]
    assert airflow == ["serving:/opt/airflow/var/serving"]  # <NIGHTLY_VAR>/serving
    assert "ENV" in dict(instructions()) and "NIGHTLY_VAR=/opt/airflow/var" in " ".join(arguments("ENV"))
    assert "serving:/models:ro" in SERVICES["serving"]["volumes"]


def test_every_part_of_airflow_has_all_state_on_the_same_volumes():
    (var,) = re.findall(r"NIGHTLY_VAR=(\S+)", " ".join(arguments("ENV")))
    for name in ("init", "api-server", "scheduler", "dag-processor", "triggerer"):
        assert SERVICES[name]["volumes"] == [f"var:{var}", f"serving:{var}/serving"], name
        paths = Paths.from_environment({"NIGHTLY_VAR": var, **SERVICES[name]["environment"]})
        written = {place.name: getattr(paths, place.name) for place in fields(Paths) if place.name != "ml_python"}
        assert [place for place, path in written.items() if not path.is_relative_to(var)] == []


@pytest.mark.parametrize("setting", ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "NIGHTLY_METADATA_DB"])
def test_databases_are_those_that_the_postgresql_service_makes(setting):
    made = SERVICES["postgres"]["environment"]
    databases = {made["POSTGRES_DB"], *re.findall(r"CREATE DATABASE (\w+)", str(COMPOSE["configs"]))}
    for name in ("init", "api-server", "scheduler", "dag-processor", "triggerer"):
        url = re.sub(r"\$\{\w+[^}]*\}", "secret", SERVICES[name]["environment"][setting])
        parts = urlsplit(url)
        assert (parts.username, parts.hostname, parts.port) == (made["POSTGRES_USER"], "postgres", 5432)
        assert parts.path[1:] in databases


def test_the_gpu_file_changes_the_model_server_alone_to_the_same_version_with_a_gpu():
    changed = yaml.safe_load(GPU_TEXT)["services"]
    assert set(changed) == {"serving"}
    assert changed["serving"]["image"] == SERVICES["serving"]["image"] + "-gpu"
    (device,) = changed["serving"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"] and device["driver"] == "nvidia"


WORKERS = ("worker-1", "worker-2")


def test_with_the_bucket_file_every_part_has_the_same_state_executor_and_broker():
    for name in ("init", "api-server", "scheduler", "dag-processor", "triggerer", *WORKERS):
        assert IN_BUCKET[name]["environment"] == IN_BUCKET["scheduler"]["environment"], name
    environment = IN_BUCKET["scheduler"]["environment"]
    assert environment["NIGHTLY_METADATA_DB"] == SERVICES["scheduler"]["environment"]["NIGHTLY_METADATA_DB"]
    database = SERVICES["scheduler"]["environment"]["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    assert environment["AIRFLOW__CELERY__RESULT_BACKEND"] == f"db+{database}"
    options = airflow_options() | {"celery": celery_options()}
    for setting in (name for name in environment if name.startswith("AIRFLOW__")):
        _, section, option = setting.lower().split("__")
        assert option in options[section], setting
    pull = IN_BUCKET["pull"]["environment"]
    assert pull.items() <= environment.items() and "NIGHTLY_STATE" in pull


def test_with_the_bucket_file_the_workers_share_no_disk():
    base = {mount.split(":")[1] for mount in SERVICES["scheduler"]["volumes"]}
    own = {name: dict(mount.split(":")[:2] for mount in IN_BUCKET[name]["volumes"]) for name in WORKERS}
    for volumes in own.values():
        assert set(volumes.values()) == base  # a volume of the same path replaces that of docker-compose.yaml
    volumes = [*own["worker-1"], *own["worker-2"]]
    assert len(set(volumes)) == 4 and not {"var", "serving"} & set(volumes)
    pulled, served = IN_BUCKET["pull"]["volumes"], IN_BUCKET["serving"]["volumes"]
    assert served == [f"{mount}:ro" for mount in pulled]
    assert pulled[0].split(":")[1] == SERVICES["serving"]["volumes"][0].split(":")[1]


def test_a_volume_that_the_images_user_writes_to_is_mounted_where_the_image_has_a_folder_of_that_user():
    (line,) = [words for words in arguments("RUN") if "/opt/airflow/var/serving" in words]
    owned = {word for word in line.split() if word.startswith("/")}
    assert "--owner=50000" in line
    written = [SERVICES["scheduler"]["volumes"], *(IN_BUCKET[name]["volumes"] for name in (*WORKERS, "pull"))]
    assert {mount.split(":")[1] for mounts in written for mount in mounts} == owned


def test_compose_merges_the_files_of_the_bucket():
    if not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("there is no docker command with Compose")
    secrets = {name: "secret" for name, (value, _) in read_env().items() if not value}
    command = ["docker", "compose", "-f", "docker-compose.yaml", "-f", "docker-compose.bucket.yaml", "config"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | secrets, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    for name in WORKERS:
        mounted = {volume["source"] for volume in services[name]["volumes"]}
        assert mounted == {name, f"{name}-serving"}
        assert services[name]["command"] == ["airflow", "celery", "worker"]


class Answer(BaseHTTPRequestHandler):
    """The page of the model server's metrics, with a status of our choice."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/monitoring/prometheus/metrics" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (500, False), (None, False)])
def test_the_model_server_is_healthy_when_its_rest_port_answers(status, healthy):
    program, option, script = SERVICES["serving"]["healthcheck"]["test"][1:]
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answers", (Answer,), {"status": status}))
    if status is None:
        server.server_close()  # nobody listens
    else:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    script = script.replace("$$", "$").replace("8501", str(server.server_port))
    done = subprocess.run([program, option, script], capture_output=True, timeout=30)
    if status is not None:
        server.shutdown()
        server.server_close()
    assert (done.returncode == 0) == healthy


@pytest.mark.parametrize(("service", "component"), [("dag-processor", "dag_processor"), ("triggerer", "triggerer")])
@pytest.mark.parametrize(("status", "healthy"), [("healthy", True), ("unhealthy", False), (None, False), ("", False)])
def test_a_part_without_a_port_is_healthy_when_the_api_server_says_so(service, component, status, healthy):
    """The other components are in the other state, so that the check must read its own."""
    states = dict.fromkeys(("scheduler", "dag_processor", "triggerer"), "unhealthy" if healthy else "healthy")
    states[component] = status
    answer = HealthInfoResponse(
        metadatabase={"status": "healthy"},
        scheduler={"status": states["scheduler"], "latest_scheduler_heartbeat": None},
        dag_processor={"status": states["dag_processor"], "latest_dag_processor_heartbeat": None},
        triggerer={"status": states["triggerer"], "latest_triggerer_heartbeat": None},
    )
    body = answer.model_dump_json().encode()

    class Health(Answer):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/api/v2/monitor/health" else 404)
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Health)
    if status == "":
        server.server_close()  # nobody listens
    else:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    kind, script = SERVICES[service]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    script = script.replace("$$", "$").replace("http://api-server:8080", f"http://127.0.0.1:{server.server_port}")
    done = subprocess.run(["sh", "-c", script], capture_output=True, timeout=30)
    if status != "":
        server.shutdown()
        server.server_close()
    assert (done.returncode == 0) == healthy


def test_the_model_servers_command_line_is_understood_by_the_embedded_server_too():
    script = "import json, sys; from nightly_server.flags import parse_flags; parse_flags(json.loads(sys.argv[1]))"
    # What the official image's entrypoint gives before the command.
    entrypoint = ["--port=8500", "--rest_api_port=8501", "--model_name=model", "--model_base_path=/models/model"]
    flags = json.dumps(entrypoint + SERVICES["serving"]["command"])
    command = [environments.VENVS / "ml/bin/python", "-c", script, flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
    assert "--model_config_file names the models" in done.stderr


def test_ports_are_open_to_this_machine_only():
    assert all(port.startswith("127.0.0.1:") for service in SERVICES.values() for port in service.get("ports", []))


@pytest.mark.slow
def test_the_init_service_makes_the_database_the_log_in_and_the_servers_configuration(tmp_path):
    shell, option, script = SERVICES["init"]["command"]
    for name in ("include", "client", "server"):
        (tmp_path / name).symlink_to(ROOT / name)
    password = 'correct "horse"'
    environment = {
        "PATH": f"{AIRFLOW / 'bin'}:{os.environ['PATH']}",
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/airflow.db",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": f"{tmp_path}/var/airflow/passwords.json",
        "AIRFLOW_ADMIN_PASSWORD": password,
        "NIGHTLY_VAR": f"{tmp_path}/var",
        "PYTHONPATH": python_path(tmp_path),
    }

    for _ in range(2):  # `docker compose up` runs it every time
        command = [shell, option, script.replace("$$", "$")]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    serving = tmp_path / "var/serving"
    assert "model_config_list" in (serving / "models.config").read_text()
    named = re.findall(r"/models/([\w.]+)", " ".join(SERVICES["serving"]["command"]))
    assert sorted(path.name for path in serving.glob("*.config")) == sorted(named)
    passwords = tmp_path / "var/airflow/passwords.json"
    assert json.loads(passwords.read_text()) == {"admin": password}
    assert passwords.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "airflow.db").stat().st_size > 100_000


# Dockerfile


def test_the_dockerfile_is_clean_by_its_linter():
    done = tool("hadolint", ROOT / "Dockerfile")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_base_image_is_the_locked_airflow_on_a_python_that_is_supported():
    image = re.search(r"^ARG BASE=apache/airflow:([\d.]+)-python(\d+)\.(\d+)$", DOCKERFILE, re.M)
    locked = re.search(r"^apache-airflow==([\d.]+)", (ROOT / "requirements.txt").read_text(), re.M)
    assert image[1] == locked[1]
    assert environments.PYTHONS[0] <= (int(image[2]), int(image[3])) <= environments.PYTHONS[1]


def test_what_is_copied_exists_and_is_sent_to_the_engine():
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    sent = {pattern[1:] for pattern in patterns if pattern.startswith("!")}
    copied = [words.split()[0].rstrip("/") for words in arguments("COPY") if not words.startswith("--from")]
    assert set(copied) == sent and patterns[0] == "*"
    assert all((ROOT / path).exists() for path in copied)
    assert not any(fnmatch(path, pattern) for path in copied for pattern in patterns[1:] if pattern[0] != "!")


def test_the_image_finds_both_environments_where_the_set_up_put_them():
    told = dict(re.findall(r"(\w+)=(\S+)", " ".join(arguments("ENV"))))
    venvs = told["NIGHTLY_VENVS"]
    assert told["NIGHTLY_ML_PYTHON"] == f"{venvs}/ml/bin/python"
    assert told["PATH"].startswith(f"{venvs}/airflow/bin:") and told["VIRTUAL_ENV"] == f"{venvs}/airflow"
    # The private C runtime and the interpreters are found by absolute paths: what is copied must not move.
    copied = [words.split()[1:] for words in arguments("COPY") if words.startswith("--from")]
    assert copied == [[f"{venvs}/{name}"] * 2 for name in ("c-runtime", "ml", "airflow")]
    runs = " ".join(arguments("RUN"))
    assert "python3 -m setup airflow slim" in runs and "python3 -m setup ml slim" in runs


def test_the_container_runs_as_an_unprivileged_user_and_not_through_the_preloading_entrypoint():
    assert arguments("USER")[-1] == "50000"
    assert json.loads(arguments("ENTRYPOINT")[-1]) == ["/usr/bin/dumb-init", "--"]
    assert "/entrypoint" not in arguments("ENTRYPOINT")[-1]


# airflow_settings.yaml, LICENSE


def test_airflow_settings_have_the_structure_that_the_astro_cli_reads():
    # settings/types.go of the Astro CLI
    fields = {
        "connections": "conn_id conn_type conn_host conn_schema conn_login conn_password conn_port conn_uri conn_extra",
        "pools": "pool_name pool_slot pool_description",
        "variables": "variable_name variable_value",
    }
    assert set(SETTINGS) == set(fields)
    for kind, names in fields.items():
        for entry in SETTINGS[kind]:
            assert set(entry) <= set(names.split()), entry
    assert all(isinstance(pool["pool_slot"], int) for pool in SETTINGS["pools"])
    assert not any(connection.get("conn_password") for connection in SETTINGS["connections"])


def test_airflow_settings_hold_the_connections_and_the_pool_that_the_dags_use():
    sources = [tomllib.loads(path.read_text())["source"] for path in (ROOT / "include/models").glob("*/config.toml")]
    [api] = [source for source in sources if source["kind"] == "http"]
    assert [connection["conn_id"] for connection in SETTINGS["connections"]] == [api["connection"]]
    assert SETTINGS["connections"][0]["conn_host"] == api["url"]

    plugin = ast.parse((ROOT / "plugins/nightly_airflow/pool.py").read_text())
    made = next(
        ast.literal_eval(line.value)
        for line in plugin.body
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "(POOL, SLOTS)"
    )
    assert [(pool["pool_name"], pool["pool_slot"]) for pool in SETTINGS["pools"]] == [made]


@pytest.mark.parametrize("words", ["Apache License", "Version 2.0, January 2004", "END OF TERMS AND CONDITIONS"])
def test_the_licence_is_the_whole_apache_licence(words):
    assert words in (ROOT / "LICENSE").read_text()


# What an image leaves out


def test_an_image_leaves_out_what_no_night_reads_and_keeps_interfaces_of_the_same_name(tmp_path):
    packages = tmp_path / "lib/python3.12/site-packages"
    unread = ["tensorflow/include/xla/x.h", "clang/native/libclang.so", "pandas/tests/io/tests/t.py", "tfx/testdata/d"]
    read = ["tensorflow/_api/v2/test/__init__.py", "apache_beam/testing/util.py", "jinja2/tests.py"]
    for name in unread + read:
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text("")
    slim(tmp_path)
    assert sorted(str(path.relative_to(packages)) for path in packages.rglob("*") if path.is_file()) == sorted(read)
