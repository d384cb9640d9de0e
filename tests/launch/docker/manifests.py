"""The files of launch/k8s and their schemas; every validator refuses a field it does not know."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

FOLDER = Path(__file__).resolve().parents[3] / "launch/k8s"
# The oldest release that is still looked after, more or less; every field used is stable in it.
RELEASE = "1.33"
Document = dict[str, Any]


def documents() -> list[tuple[str, Document]]:
    """(file/kind, document) of every document in launch/k8s."""
    found = []
    for path in sorted(FOLDER.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            found.append((f"{path.name}/{document['kind']}", document))
    return found


class ManifestError(ValueError):
    """A document that its schema refuses."""


def validate(document: Document) -> None:
    """Raises ManifestError when the document's schema refuses it, also for an unknown field."""
    kind = document["kind"]
    try:
        _CUSTOM.get(kind, _validate_core)(document)
        for template in pod_templates(document):
            metadata = {"name": "template", **template.get("metadata", {})}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
            _validate_core({**pod, "spec": template["spec"]})
    except (jsonschema.ValidationError, ValueError, TypeError, AttributeError) as error:
        # The last three: what generated models end with where a value is not what they expect.
        raise ManifestError(f"{kind}: {error}") from error


def pod_templates(document: Document) -> list[Document]:
    """Every pod template below, wherever it lies."""
    return [found for found in _below(document) if isinstance(found.get("spec"), dict)
            and "containers" in found["spec"]]  # fmt: skip


def paths(tree: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every field in a document."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        if isinstance(tree, dict):
            yield (*at, key)
        if isinstance(value, dict | list):
            yield from paths(value, (*at, key))


def _below(tree: Any) -> Iterator[Document]:
    if isinstance(tree, dict):
        yield tree
    if isinstance(tree, dict | list):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from _below(value)


def _validate_core(document: Document) -> None:
    kubernetes_validate.validate(document, RELEASE, strict=True)


def _validate_trainer(document: Document) -> None:
    """Kubeflow Trainer's own models. They drop what they don't know: it must come back whole."""
    from kubeflow_trainer_api import models

    model: Any = getattr(models, f"TrainerV1alpha1{document['kind']}")
    assert document["apiVersion"] == "trainer.kubeflow.org/v1alpha1"
    _compare(document, model.from_dict(document).to_dict())


def _validate_pytorch_job(document: Document) -> None:
    """The Training Operator's own models, read as its client reads them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # generated code's own business
        from kubeflow.training.api_client import ApiClient
        from kubeflow.training.models import KubeflowOrgV1PyTorchJob
    assert document["apiVersion"] == "kubeflow.org/v1"
    client: Any = ApiClient()
    deserialize: Callable[..., Any] = client._ApiClient__deserialize
    job = deserialize(document, KubeflowOrgV1PyTorchJob)
    _compare(document, client.sanitize_for_serialization(job))


_CUSTOM: dict[str, Callable[[Document], None]] = {
    "PyTorchJob": _validate_pytorch_job,
    "TrainJob": _validate_trainer,
    "TrainingRuntime": _validate_trainer,
}


def _compare(document: Document, understood: Document) -> None:
    if document != understood:
        known, given = set(paths(understood)), set(paths(document))
        lost = [".".join(map(str, path)) for path in sorted(given - known, key=str)]
        raise ValueError(f"{document['kind']}: not understood: {', '.join(lost) or 'a value'}")
