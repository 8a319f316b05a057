"""A Kubernetes cluster on this machine: an API server, and a node that runs pods as processes.

Debian has etcd (`apt-get install etcd-server`); `tests/support/build_kube_apiserver` builds the API server by Go's
module proxy. Where one of the two is missing, tests/support/fake_kube_api.py answers instead.
"""

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from local.airflow import free_port
from local.child import Child
from nightly.io import variables
from tests.support.fake_kube_api import FakeApi
from tests.support.kubelet import Kubelet

START_SECONDS = 300
NAMESPACE = "nightly"


@dataclass
class Cluster:
    """The cluster; `kubelet` is its only node.

    :ivar api: a client that may do everything
    :ivar kube_config: of Airflow's user, which may do what its role in the namespace allows
    :ivar real: whether Kubernetes' own API server runs
    """

    api: client.CoreV1Api
    rbac: client.RbacAuthorizationV1Api
    kubelet: Kubelet
    kube_config: dict[str, Any]
    real: bool

    def connection(self) -> str:
        """Return the Airflow connection of the cluster, as AIRFLOW_CONN_KUBERNETES_DEFAULT has it."""
        extra = {"kube_config": json.dumps(self.kube_config), "namespace": NAMESPACE}
        return json.dumps({"conn_type": "kubernetes", "extra": extra})

    def create_secret(self, name: str, values: dict[str, str]) -> None:
        secret = {"metadata": {"name": name}, "stringData": values}
        self.api.create_namespaced_secret(NAMESPACE, secret)

    def allow(self, role: dict[str, Any]) -> None:
        """Give Airflow's user a role in the namespace."""
        self.rbac.create_namespaced_role(NAMESPACE, role)
        group = "rbac.authorization.k8s.io"
        name = role["metadata"]["name"]
        binding = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [{"apiGroup": group, "kind": "User", "name": "airflow"}],
        }
        self.rbac.create_namespaced_role_binding(NAMESPACE, binding)


def program(name: str) -> str | None:
    """Return the path of a program, in PATH or where build_kube_apiserver has put it; None if it is missing."""
    built = Path(variables.TRIAL.read()) / "bin" / name
    return shutil.which(name) or (str(built) if built.exists() else None)


@contextmanager
def running_cluster(folder: Path, environment: dict[str, str]) -> Iterator[Cluster]:
    """Start a cluster in `folder`.

    :param environment: of every container, as its image would set it
    """
    tokens = {"admin": secrets.token_hex(16), "airflow": secrets.token_hex(16)}
    real = program("etcd") and program("kube-apiserver")
    with (_real_api if real else _fake_api)(folder, tokens) as address:
        admin = client.CoreV1Api(config.new_client_from_config_dict(_kube_config(address, tokens["admin"])))
        admin.create_namespace({"metadata": {"name": NAMESPACE}})
        with Kubelet(admin, folder, environment) as kubelet:
            rbac = client.RbacAuthorizationV1Api(admin.api_client)
            yield Cluster(admin, rbac, kubelet, _kube_config(address, tokens["airflow"]), bool(real))


@contextmanager
def _fake_api(_folder: Path, tokens: dict[str, str]) -> Iterator[str]:
    api = FakeApi(tokens)
    api.start()
    try:
        yield api.url
    finally:
        api.stop()


@contextmanager
def _real_api(folder: Path, tokens: dict[str, str]) -> Iterator[str]:
    """Start etcd and the API server; yield its address."""
    ports = [free_port() for _ in range(3)]
    urls = [f"http://127.0.0.1:{port}" for port in ports[:2]]
    (folder / "tokens.csv").write_text(f'{tokens["admin"]},admin,1,"system:masters"\n{tokens["airflow"]},airflow,2\n')
    key = folder / "service-accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    store = [program("etcd"), f"--data-dir={folder}/etcd"]
    store += [f"--listen-client-urls={urls[0]}", f"--advertise-client-urls={urls[0]}"]
    store += [f"--listen-peer-urls={urls[1]}", f"--initial-advertise-peer-urls={urls[1]}"]
    store += [f"--initial-cluster=default={urls[1]}"]
    server = [program("kube-apiserver"), f"--etcd-servers={urls[0]}", f"--secure-port={ports[2]}"]
    server += ["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--cert-dir={folder}/certificates"]
    server += ["--authorization-mode=RBAC", f"--token-auth-file={folder}/tokens.csv"]
    server += ["--service-cluster-ip-range=10.96.0.0/24", "--endpoint-reconciler-type=none"]
    server += [f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}"]
    server += ["--service-account-issuer=https://kubernetes.default.svc"]
    # No controller makes service accounts here, and a pod of the tests runs without one.
    server += ["--disable-admission-plugins=ServiceAccount,TaintNodesByCondition"]
    children = [Child(store, folder / "etcd.log", dict(os.environ))]
    try:
        children.append(Child(server, folder / "api-server.log", dict(os.environ)))
        address = f"https://127.0.0.1:{ports[2]}"
        admin = config.new_client_from_config_dict(_kube_config(address, tokens["admin"]))
        if not children[1].wait_for(lambda: _answers(client.CoreV1Api(admin)), START_SECONDS):
            raise RuntimeError(f"the API server did not start: {children[1].last_lines(20)}")
        yield address
    finally:
        for child in reversed(children):
            child.stop()


def role_of(page: Path) -> dict[str, Any]:
    """Return the Role that a page of the documentation shows."""
    for block in page.read_text().split("```yaml\n")[1:]:
        for document in yaml.safe_load_all(block.partition("```")[0]):
            if document.get("kind") == "Role":
                return document
    raise ValueError(f"{page} shows no Role")


def _kube_config(address: str, token: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": address, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }


def _answers(api: client.CoreV1Api) -> bool:
    try:
        api.read_namespace("kube-system")
    except (ApiException, HTTPError):
        return False
    return True
