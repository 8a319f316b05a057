"""The files in deploy/, as far as they can be checked without a cluster: against Kubernetes' types and one another."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from tests.setup.test_container_files import IN_BUCKET, SERVICES, tool

ROOT = Path(__file__).resolve().parents[2]
DEPLOY, DOCS = ROOT / "deploy", ROOT / "docs/how-to/deploy"
VALUES = yaml.safe_load((DEPLOY / "kubernetes/values.yaml").read_text())
(DEPLOYMENT, SERVICE) = yaml.safe_load_all((DEPLOY / "kubernetes/serving.yaml").read_text())
(ROLE, BINDING) = yaml.safe_load_all((DEPLOY / "kubernetes/pods.yaml").read_text())
MANIFESTS = [DEPLOYMENT, SERVICE, ROLE, BINDING]
POD = DEPLOYMENT["spec"]["template"]["spec"]
(PULL,), (SERVING,) = POD["initContainers"], POD["containers"]
ENVIRONMENT = {entry["name"]: entry["value"] for entry in VALUES["env"]}


def parsed(value: Any, kind: str, where: str) -> Any:
    """Return `value` as the Kubernetes client's object of type `kind`; it has no field that the type lacks."""
    if match := re.fullmatch(r"list\[(.+)\]", kind):
        return [parsed(entry, match[1], f"{where}[{number}]") for number, entry in enumerate(value)]
    if match := re.fullmatch(r"dict[(\[]str, (.+)[)\]]", kind):
        return {name: parsed(entry, match[1], f"{where}.{name}") for name, entry in value.items()}
    model = getattr(client, kind, None)
    if model is None:
        allowed = {"str": str, "int": int, "bool": bool, "object": (str, int)}[kind]
        assert isinstance(value, allowed), f"{where} is {value!r}, and must be {kind}"
        return value
    attributes = {name: attribute for attribute, name in model.attribute_map.items()}
    assert set(value) <= set(attributes), f"{where}: {set(value) - set(attributes)} is no field of {kind}"
    fields = {
        attributes[name]: parsed(entry, model.openapi_types[attributes[name]], f"{where}.{name}")
        for name, entry in value.items()
    }
    return model(**fields)  # raises ValueError if a required field is missing


@pytest.mark.parametrize("manifest", MANIFESTS, ids=[manifest["kind"] for manifest in MANIFESTS])
def test_a_manifest_has_the_fields_of_its_kind_and_no_others(manifest):
    parsed(manifest, f"V1{manifest['kind']}", manifest["kind"])


@pytest.mark.parametrize(
    "change",
    [{"replica": 2}, {"replicas": "2"}, {"selector": None}],
    ids=["a misspelt field", "a wrong type", "a missing field"],
)
def test_a_wrong_manifest_would_be_refused(change):
    spec = {name: value for name, value in (DEPLOYMENT["spec"] | change).items() if value is not None}
    with pytest.raises((AssertionError, ValueError)):
        parsed(DEPLOYMENT | {"spec": spec}, "V1Deployment", "Deployment")


def test_the_role_is_bound_and_is_the_one_that_the_guide_of_steps_in_pods_names():
    assert BINDING["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "Role",
        "name": ROLE["metadata"]["name"],
    }
    guide = (ROOT / "docs/how-to/kubernetes-steps.md").read_text()
    (named,) = [
        yaml.safe_load(text) for text in re.findall(r"```yaml\n(.+?)```", guide, re.S) if "kind: Role\n" in text
    ]
    assert ROLE["rules"] == named["rules"]


def test_the_service_reaches_the_model_server_by_the_address_that_airflow_has():
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    assert SERVICE["spec"]["selector"].items() <= labels.items()
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == labels
    ports = {port["name"]: port["containerPort"] for port in SERVING["ports"]}
    addresses = {port["name"]: f"{SERVICE['metadata']['name']}:{port['port']}" for port in SERVICE["spec"]["ports"]}
    assert all(port["targetPort"] in ports for port in SERVICE["spec"]["ports"])
    assert addresses == {"rest": ENVIRONMENT["NIGHTLY_SERVING_REST"], "grpc": ENVIRONMENT["NIGHTLY_SERVING_GRPC"]}


def test_the_model_server_runs_as_in_compose_on_the_volume_that_is_pulled_into():
    assert SERVING["args"] == IN_BUCKET["serving"]["command"]
    assert SERVING["image"] == re.sub(r"\$\{\w+:-([\d.]+)\}", r"\1", SERVICES["serving"]["image"])
    (mount,), (pulled,) = SERVING["volumeMounts"], PULL["volumeMounts"]
    assert mount == pulled | {"readOnly": True}
    assert mount["mountPath"] == ENVIRONMENT["NIGHTLY_SERVING_BASE_PATH"]
    assert PULL["command"][PULL["command"].index("--into") + 1] == mount["mountPath"]
    assert PULL["restartPolicy"] == "Always"  # a sidecar
    assert PULL["command"] == [word.replace("serving:", "localhost:") for word in IN_BUCKET["pull"]["command"]]


def test_all_have_the_same_image_and_state():
    image = f"{VALUES['defaultAirflowRepository']}:{VALUES['defaultAirflowTag']}"
    assert PULL["image"] == image
    assert image in (DOCS / "kubernetes.md").read_text()
    state = ENVIRONMENT["NIGHTLY_STATE"]
    assert {entry["name"]: entry["value"] for entry in PULL["env"]} == {"NIGHTLY_STATE": state}
    assert (
        VALUES["volumeMounts"][0]["mountPath"] == re.search(r"NIGHTLY_VAR=(\S+)", (ROOT / "Dockerfile").read_text())[1]
    )


def test_every_secret_is_created_in_the_guide_with_its_keys():
    text = (DOCS / "kubernetes.md").read_text()
    created = {
        name: set(re.findall(r"--from-literal=([\w-]+)=", rest))
        for name, rest in re.findall(r"create secret generic ([\w-]+) (.+?)(?=kubectl create|```)", text, re.S)
    }
    (everywhere,) = yaml.safe_load(VALUES["extraEnvFrom"])
    assert everywhere == PULL["envFrom"][0]
    needed = {
        everywhere["secretRef"]["name"]: {"NIGHTLY_METADATA_DB"},
        VALUES["data"]["metadataSecretName"]: {"connection"},
        VALUES["data"]["resultBackendSecretName"]: {"connection"},
    }
    # The keys that the chart reads.
    keys = {
        "fernetKeySecretName": "fernet-key",
        "apiSecretKeySecretName": "api-secret-key",
        "jwtSecretName": "jwt-secret",
    }
    for value, key in keys.items():
        needed[VALUES[value]] = needed.get(VALUES[value], set()) | {key}
    (passwords,) = VALUES["apiServer"]["env"]
    secret = passwords["valueFrom"]["secretKeyRef"]
    needed[secret["name"]] |= {secret["key"]}
    assert created.keys() == needed.keys()
    assert all(names <= created[secret] for secret, names in needed.items())
    assert f"${passwords['name']}" in VALUES["apiServer"]["args"][-1]


def test_the_version_of_airflow_is_the_locked_one():
    locked = re.search(r"^apache-airflow==([\d.]+)", (ROOT / "requirements.txt").read_text(), re.M)[1]
    assert VALUES["airflowVersion"] == locked
    runtime = re.search(r"^FROM \S+/runtime:([\d.]+)-\d+$", (DEPLOY / "astro/Dockerfile").read_text(), re.M)[1]
    assert locked.startswith(f"{runtime}.")


# Astro


def test_the_astro_image_is_clean_by_its_linter_and_takes_the_environment_from_where_the_image_has_it():
    done = tool("hadolint", DEPLOY / "astro/Dockerfile")
    assert done.returncode == 0, done.stdout + done.stderr
    text, ours = (DEPLOY / "astro/Dockerfile").read_text(), (ROOT / "Dockerfile").read_text()
    copied = re.findall(r"^COPY --from=nightly-retrain:latest (\S+) (\S+)$", text, re.M)
    assert len(copied) == 2
    for source, target in copied:
        assert source == target and f"COPY --from=environments {source} {target}" in ours
    assert re.search(r"NIGHTLY_ML_PYTHON=(\S+)", text)[1] == re.search(r"NIGHTLY_ML_PYTHON=(\S+)", ours)[1]


def test_the_packages_of_a_managed_airflow_are_those_of_the_airflow_side():
    listed = (DEPLOY / "astro/requirements.txt").read_text().splitlines()
    listed = {line for line in listed if line and not line.startswith("#")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    wanted = {*project["project"]["dependencies"], *extras.get("bucket", []), *extras.get("kubernetes", [])}
    assert wanted <= listed
    known = {re.split(r"[<>=\[]", name)[0] for name in [*wanted, *project["dependency-groups"]["airflow"]]}
    assert {re.split(r"[<>=\[]", name)[0] for name in listed} <= known


@pytest.mark.slow
def test_the_copied_astro_project_has_what_the_cli_and_the_dags_need(tmp_path):
    text = (DOCS / "astro.md").read_text()
    (command,) = re.findall(r"^cp .+$", text, re.M)
    target = tmp_path / "nightly-astro"
    target.mkdir()
    subprocess.run(command.replace("../nightly-astro", str(target)), shell=True, cwd=ROOT, check=True)
    expected = ["Dockerfile", "packages.txt", "requirements.txt", ".astro/config.yaml", ".dockerignore"]
    expected += [
        "airflow_settings.yaml",
        "dags/taxi_retrain.py",
        "plugins/nightly_plugin.py",
        "include/models/taxi/config.toml",
    ]
    assert [name for name in expected if not (target / name).exists()] == []
    config = yaml.safe_load((target / ".astro/config.yaml").read_text())
    assert set(config) == {"project"} and config["project"]["name"]
    path = re.search(r"PYTHONPATH=(\S+)", (target / "Dockerfile").read_text())[1]
    here = path.replace("/usr/local/airflow", str(target)) + f":{target / 'plugins'}"
    script = "import nightly.io.paths as p; import nightly_airflow.retrain; print(p.ROOT, p.MODELS.is_dir())"
    (packages,) = (ROOT / ".venv/airflow").glob("lib/python3*/site-packages")  # as packages alone: its .pth names ROOT
    done = subprocess.run(
        [ROOT / ".venv/airflow/bin/python", "-S", "-c", f"import sys; sys.path.append({str(packages)!r}); {script}"],
        env={"PYTHONPATH": here, "AIRFLOW_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [str(target), "True"], done.stderr
