"""k8s/: the manifests fit the schemas and each other, and JAX finds its processes."""

import re
import shlex
import socket
from types import SimpleNamespace

import pytest
import yaml
from jax._src.clusters.k8s_cluster import K8sCluster
from shared import ROOT, assert_one_line, import_or_skip, run_python

from rpcl_jax.__main__ import MODES

FOLDER = ROOT / "k8s"
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
FILES = {
    path.name: list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    for path in FOLDER.glob("*.yaml")
}
(JOB,) = (each for each in FILES["training.yaml"] if each["kind"] == "Job")
(RAY_JOB,) = FILES["predict.yaml"]
RAY = RAY_JOB["spec"]["rayClusterSpec"]
POD = JOB["spec"]["template"]["spec"]
RAY_PODS = [group["template"] for group in (RAY["headGroupSpec"], *RAY["workerGroupSpecs"])]


def named(kind):
    (found,) = (each for each in FILES["training.yaml"] if each["kind"] == kind)
    return found


def objects():
    """Everything that Kubernetes has a schema for; that of a RayJob is only in KubeRay."""
    yield from (each for file in FILES.values() for each in file if each is not RAY_JOB)
    for number, template in enumerate(RAY_PODS):
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"ray-{number}"}} | template


@pytest.mark.slow
def test_every_object_fits_its_schema():
    kubernetes_validate = import_or_skip("kubernetes_validate")
    # In the first of these, podFailurePolicy is stable.
    for version in ("1.31", kubernetes_validate.latest_version()):
        for each in objects():
            kubernetes_validate.validate(each, version, strict=True)
    assert len(list(objects())) == 8


class Api:
    """In place of Kubernetes: answers what the role permits as after `kubectl apply`."""

    def __init__(self, index):
        self._index = index
        self._rules = {
            (resource, verb)
            for rule in named("Role")["rules"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }
        self.asked = set()

    def _ask(self, *right):
        self.asked.add(right)
        assert right in self._rules, "not permitted"

    def list_namespaced_pod(self, namespace, field_selector):
        self._ask("pods", "list")
        assert (namespace, field_selector) == ("here", f"status.podIP=10.0.0.{self._index}")
        owner = SimpleNamespace(controller=True, kind="Job")
        labels = JOB["spec"]["template"]["metadata"]["labels"] | {
            "job-name": JOB["metadata"]["name"]
        }
        metadata = SimpleNamespace(name="pod", labels=labels, owner_references=[owner])
        spec = SimpleNamespace(subdomain=POD["subdomain"])
        return SimpleNamespace(items=[SimpleNamespace(metadata=metadata, spec=spec)])

    def read_namespaced_job(self, name, namespace):
        self._ask("jobs", "get")
        assert (name, namespace) == (JOB["metadata"]["name"], "here")
        metadata = SimpleNamespace(name=name, labels=JOB["metadata"].get("labels"))
        spec = SimpleNamespace(parallelism=JOB["spec"]["parallelism"])
        return SimpleNamespace(metadata=metadata, spec=spec)


def test_jax_finds_the_processes_with_the_rights_of_the_role(monkeypatch):
    service, count = named("Service"), JOB["spec"]["completions"]
    host = f"{JOB['metadata']['name']}-0.{service['metadata']['name']}"
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": JOB["metadata"]["name"]}
    assert JOB["spec"]["completionMode"] == "Indexed"
    for index in range(count):
        api = Api(index)

        class Cluster(K8sCluster):  # whose answers are kept by class
            _core_api = _batch_api = api
            _ApiException = OSError
            _namespace = classmethod(lambda cls: "here")

        K8sCluster._cluster_types.remove(Cluster)
        addresses = {host: "10.0.0.0", f"pod-{index}": f"10.0.0.{index}"}
        monkeypatch.setattr(socket, "gethostbyname", addresses.__getitem__)
        monkeypatch.setenv("HOSTNAME", f"pod-{index}")
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        assert Cluster.get_coordinator_address(9, None) == f"{host}:55527"
        assert (Cluster.get_process_id(), Cluster.get_process_count()) == (index, count)
        assert api.asked == api._rules, "and no other rights"


@pytest.mark.slow
def test_what_kubernetes_refuses_is_one_line(tmp_path):
    (tmp_path / "kubernetes.py").write_text(
        "class config:\n"
        "    def load_incluster_config():\n"
        "        raise Exception('Service token file does not exist.')\n"
    )
    where = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "PYTHONPATH": str(tmp_path)}
    done = run_python("-m", "rpcl_jax", "train", "--config=demo", "--distributed",
                      status=1, environment=where)  # fmt: skip
    assert_one_line(done, "Service token file does not exist", "k8s/training.yaml")


def test_the_names_agree():
    account = named("ServiceAccount")["metadata"]["name"]
    role, binding = named("Role"), named("RoleBinding")
    assert POD["serviceAccountName"] == account
    assert [(each["kind"], each["name"]) for each in binding["subjects"]] == [
        ("ServiceAccount", account)
    ]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    groups = {group for rule in role["rules"] for group in rule["apiGroups"]}
    assert groups == {"", "batch"}
    (claim,) = FILES["volume.yaml"]
    home = re.search(r"WORKDIR (\S+)", DOCKERFILE)[1]
    user = int(re.search(r"USER (\d+)", DOCKERFILE)[1])
    for pod in (POD, *(template["spec"] for template in RAY_PODS)):
        claims = [volume.get("persistentVolumeClaim") for volume in pod["volumes"]]
        assert {"claimName": claim["metadata"]["name"]} in claims
        assert pod["securityContext"]["fsGroup"] == user
        (container,) = pod["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts["shared"] == home
        assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}
        assert container["image"] == POD["containers"][0]["image"]
        assert container["image"] in DOCKERFILE


def test_the_commands_are_ours():
    assert JOB["spec"]["parallelism"] == JOB["spec"]["completions"], "all at once, or none meet"
    mode, config, *flags = POD["containers"][0]["args"]
    assert mode in MODES
    assert (ROOT / "configs" / f"{config.removeprefix('--config=')}.py").is_file()
    assert flags == ["--distributed"]
    rpcl, mode, *flags = shlex.split(RAY_JOB["spec"]["entrypoint"])
    assert (rpcl, mode in MODES) == ("rpcl", True)
    assert {"--engine=ray", "--address=auto"} <= set(flags)
    wanted = f'k8s = ["jax[k8s]", "ray[data,default]>={RAY["rayVersion"].removesuffix(".0")}"]'
    assert wanted in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_dockerfile_copies_what_is_there():
    copied = [line.split()[1:-1] for line in DOCKERFILE.splitlines() if line.startswith("COPY")]
    copied = {name for names in copied for name in names}
    assert {"rpcl_jax", "configs", "tools", "pyproject.toml", "requirements.txt"} <= copied
    for name in copied:
        assert (ROOT / name).exists(), name
    extras = re.search(r'"/src\[(\w+)\]"', DOCKERFILE)[1]
    assert f"\n{extras} = [" in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
