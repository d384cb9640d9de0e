"""launch/k8s against the schemas, and what the schemas can't say."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from marigold_rec import errors
from tests.launch.docker.manifests import (
    FOLDER,
    RELEASE,
    Document,
    ManifestError,
    documents,
    paths,
    pod_templates,
    validate,
)

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = documents()
NAMES = [name for name, _ in DOCUMENTS]
# Names that the writer of a manifest chooses; no schema can know these.
_FREE = ("labels", "annotations", "limits", "requests", "nvidia.com/gpu", "pytorchReplicaSpecs")
JOBS = [pair for pair in DOCUMENTS if pod_templates(pair[1])]


def found(name: str) -> Document:
    return copy.deepcopy(dict(DOCUMENTS)[name])


def test_all_are_here() -> None:
    assert sorted(NAMES) == [
        "nightly.yaml/CronJob",
        "pytorchjob.yaml/PyTorchJob",
        "trainjob.yaml/TrainJob",
        "trainjob.yaml/TrainingRuntime",
        "volumes.yaml/PersistentVolumeClaim",
        "volumes.yaml/PersistentVolumeClaim",
    ]


@pytest.mark.parametrize(("name", "document"), DOCUMENTS)
def test_it_fits_its_schema(name: str, document: Document) -> None:
    validate(document)


def test_the_command_says_so_too() -> None:
    """What .ci/run shows."""
    tool = Path(sys.prefix) / "bin/kubernetes-validate"
    files = [FOLDER / "nightly.yaml", FOLDER / "volumes.yaml"]
    done = subprocess.run(
        [tool, "-k", RELEASE, "--strict", *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("passed for resource") == 3


@pytest.mark.parametrize(("name", "document"), DOCUMENTS)
def test_every_misspelt_field_is_refused(name: str, document: Document) -> None:
    tried = 0
    for path in list(paths(document)):
        if any(part in _FREE for part in path[:-1]) or path[-1] in ("apiVersion", "kind"):
            continue
        wrong = copy.deepcopy(document)
        place: Any = wrong
        for part in path[:-1]:
            place = place[part]
        place[f"{path[-1]}x"] = place.pop(path[-1])
        try:
            validate(wrong)
        except ManifestError:
            tried += 1
        else:
            pytest.fail(f"{'.'.join(map(str, path))}x was taken")
    assert tried > 5


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("nightly.yaml/CronJob", ("spec", "jobTemplate", "spec", "backoffLimit"), "4"),
        ("pytorchjob.yaml/PyTorchJob", ("spec", "runPolicy", "backoffLimit"), "four"),
        ("trainjob.yaml/TrainJob", ("spec", "trainer", "numNodes"), "2"),
        ("trainjob.yaml/TrainJob", ("spec", "runtimeRef"), {"kind": "TrainingRuntime"}),
    ],
)
def test_a_wrong_value_is_refused(name: str, path: tuple[str, ...], value: object) -> None:
    wrong = found(name)
    place: Any = wrong
    for part in path[:-1]:
        place = place[part]
    assert path[-1] in place
    place[path[-1]] = value
    with pytest.raises(ManifestError):
        validate(wrong)


def _action(code: int, *, is_disrupted: bool = False) -> str:
    """What becomes of a night's pod that ended with `code`: the first rule that fits counts."""
    policy = found("nightly.yaml/CronJob")["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]
    for rule in policy["rules"]:
        if codes := rule.get("onExitCodes"):
            assert codes["operator"] == "In"
            if code in codes["values"]:
                return str(rule["action"])
        elif is_disrupted:
            assert rule["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
            return str(rule["action"])
    return "Count"


def test_a_night_is_tried_again_only_where_that_can_help() -> None:
    for code in (
        errors.EXIT_CONFIG,
        errors.EXIT_DATA,
        errors.EXIT_NUMERICS,
        errors.EXIT_NOT_PUBLISHED,
    ):
        assert _action(code) == "FailJob"
    # Also while the node is being drained: the verdict stands.
    assert _action(errors.EXIT_NOT_PUBLISHED, is_disrupted=True) == "FailJob"
    for code in (errors.EXIT_OTHER, errors.EXIT_CHECKPOINT, errors.EXIT_PREEMPTED, 137):
        assert _action(code) == "Count"
        assert _action(code, is_disrupted=True) in ("Count", "Ignore")
    assert _action(137, is_disrupted=True) == "Ignore"


def test_what_the_api_server_asks_of_a_pod_failure_policy() -> None:
    """Its own checks, which no schema holds."""
    spec = found("nightly.yaml/CronJob")["spec"]["jobTemplate"]["spec"]
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert spec["podReplacementPolicy"] == "Failed"
    names = {container["name"] for container in pod["containers"]}
    for rule in spec["podFailurePolicy"]["rules"]:
        assert ("onExitCodes" in rule) != ("onPodConditions" in rule)
        if codes := rule.get("onExitCodes"):
            assert codes["containerName"] in names
            assert codes["values"] == sorted(set(codes["values"]))
            assert 0 not in codes["values"]


def test_one_night_at_a_time() -> None:
    spec = found("nightly.yaml/CronJob")["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert len(spec["schedule"].split()) == 5
    # It must be over, all tries together, before the next begins.
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 24 * 3600


@pytest.mark.parametrize(("name", "document"), JOBS)
def test_pods_are_not_root_and_write_only_where_they_may(name: str, document: Document) -> None:
    for template in pod_templates(document):
        pod = template["spec"]
        own = pod["securityContext"]
        assert (own["runAsNonRoot"], own["runAsUser"], own["fsGroup"]) == (True, 10001, 10001)
        assert pod["automountServiceAccountToken"] is False
        # More than nightly.py's 60 s and torchrun's 30 s to save and leave.
        assert pod["terminationGracePeriodSeconds"] >= 120
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
            assert {mount["name"] for mount in mounts.values()} == set(volumes)
            assert mounts["/work/data"]["readOnly"] is True
            assert "readOnly" not in mounts["/work/runs"]
            assert "emptyDir" in volumes[mounts["/tmp"]["name"]]
            assert {"name": "HOME", "value": "/tmp"} in container["env"]


def test_claims_are_those_of_the_volumes() -> None:
    claims = {d["metadata"]["name"] for n, d in DOCUMENTS if n.endswith("Claim")}
    for _, document in JOBS:
        for template in pod_templates(document):
            used = [volume.get("persistentVolumeClaim") for volume in template["spec"]["volumes"]]
            assert {claim["claimName"] for claim in used if claim} == claims


def test_master_and_worker_are_alike() -> None:
    replicas = found("pytorchjob.yaml/PyTorchJob")["spec"]["pytorchReplicaSpecs"]
    for replica in replicas.values():
        replica.pop("replicas")
        assert replica["template"]["spec"]["containers"][0]["name"] == "pytorch"
    assert replicas["Master"] == replicas["Worker"]


def test_the_train_job_finds_its_runtime() -> None:
    job, runtime = found("trainjob.yaml/TrainJob"), found("trainjob.yaml/TrainingRuntime")
    assert job["spec"]["runtimeRef"] == {
        "kind": "TrainingRuntime",
        "name": runtime["metadata"]["name"],
    }
    [node] = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert node["name"] == "node"
    labels = node["template"]["metadata"]["labels"]
    assert labels["trainer.kubeflow.org/trainjob-ancestor-step"] == "trainer"
    # The operator's variables, and none of ours: a flag would win over them.
    args = job["spec"]["trainer"]["args"]
    assert args[:2] == ["torchrun", "launch/train.py"]


def test_commands_name_files_that_are_there() -> None:
    for _, document in DOCUMENTS:
        for args in _all_args(document):
            files = [word for word in args if word.startswith(("launch/", "configs/"))]
            assert len(files) == 2
            assert all((ROOT / file).is_file() for file in files)


def _all_args(tree: Any) -> list[list[str]]:
    if isinstance(tree, list):
        return [args for value in tree for args in _all_args(value)]
    if not isinstance(tree, dict):
        return []
    own = [tree["args"]] if "args" in tree else []
    return own + [args for value in tree.values() for args in _all_args(value)]
