"""write_report: three files that hold the report, load nothing and run nothing."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from marigold_rec.analysis.report import Curves, Figure, Model, Report, Slice, TaskReport
from marigold_rec.reporting import write_report
from marigold_rec.reporting.html import report_html
from marigold_rec.reporting.markdown import report_markdown
from marigold_rec.reporting.schema import schema_text
from tests.reporting.example import example

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("report.json", "report.md", "report.html")
HOSTILE = "<script>alert(1)</script>"
HOSTILE_NAMES = (
    HOSTILE,
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }} {% raw %}",
    "a|b\nc\r\n# d",
    "[x](javascript:alert(1)) ![y](https://example.com/z.png) `c` **d** $e^2$",
    "\u202egnp.exe\x00\x1b[31m",
    "</style></svg>&amp;",
    "\u4e2d\u6587 \u0627\u0644\u0639\u0631\u0628\u064a\u0629 \U0001f33c",
    "",
    "   ",
)
LIMIT_BYTES = 1_500_000


class Page(HTMLParser):
    """Tags, attributes and text of a page; a tag that is closed wrongly is an error."""

    VOID = frozenset({"meta", "link", "br", "img", "path", "use", "circle", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text.append(data)


@pytest.fixture(scope="module")
def html() -> str:
    return report_html(example())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "new" / "folder"
    write_report(example(), folder)
    return folder


def without_pictures(**changes: Any) -> Report:
    """Pictures are what takes the time."""
    bare = {"curves": Curves(), "baseline_curves": None}
    tasks = tuple(task.model_copy(update=bare) for task in example().tasks)
    return example(**{"tasks": tasks, "training": None} | changes)


@pytest.fixture(scope="module")
def harmless() -> tuple[str, str]:
    """(HTML, Markdown) of the same report with a harmless name in all places."""
    return report_html(hostile("x")), report_markdown(hostile("x"))


def hostile(name: str) -> Report:
    """The same text wherever a report holds text from outside."""
    whole = example()
    task = whole.tasks[0].model_copy(
        update={
            "name": name,
            "label": name,
            "observed_if": name,
            "curves": Curves(roc=((0.0, 0.0), (1.0, 1.0))),
            "baseline_curves": None,
            "figures": {"auc": Figure(value=None, reason=name), name: Figure(value=0.5)},
        }
    )
    of = whole.slices[0].model_copy(update={"name": name, "value": name, "task": name})
    model = whole.model.model_copy(
        update={"name": name, "checkpoint": name, "config_hash": name, "versions": {name: name}}
    )
    training = whole.training
    assert training is not None
    return example(
        tasks=(task,),
        slices=(of,),
        model=model,
        baseline=model,
        data=whole.data.model_copy(update={"path": name, "counts": {name: 1, f"{name}0": 0}}),
        training=training.model_copy(
            update={
                "losses": {name: training.losses["ctr"]},
                "weights": {name: training.losses["ctr"]},
            }
        ),
        warnings=(name,),
        user=name,
        group=name,
        revision=name,
    )


def test_it_writes_three_whole_files_and_nothing_else(written: Path) -> None:
    assert sorted(path.name for path in written.iterdir()) == sorted(NAMES)
    report = Report.model_validate_json((written / "report.json").read_text(encoding="utf-8"))
    assert report == example()


def test_the_same_report_gives_the_same_bytes(written: Path, html: str) -> None:
    again = {
        "report.json": example().json_text(),
        "report.md": report_markdown(example()),
        "report.html": html,
    }
    for name, text in again.items():
        assert (written / name).read_bytes() == text.encode("utf-8"), name


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_not_finite_is_refused_and_nothing_is_written(
    number: float, tmp_path: Path
) -> None:
    task = example().tasks[0]
    broken = task.model_copy(
        update={"figures": {"auc": task.figures["auc"].model_copy(update={"value": number})}}
    )
    report = example().model_copy(update={"tasks": (broken,)})
    with pytest.raises(ValueError, match="finite"):
        write_report(report, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_old_report_stays_whole_when_the_new_one_cannot_be_written(tmp_path: Path) -> None:
    write_report(without_pictures(), tmp_path)
    before = (tmp_path / "report.json").read_bytes()
    (tmp_path / ".report.html.tmp").mkdir()  # in the way of the last file
    with pytest.raises(OSError, match=r"report\.html"):
        write_report(without_pictures(world_size=7), tmp_path)
    assert (tmp_path / "report.json").read_bytes() == before
    assert not (tmp_path / ".report.json.tmp").exists()


def test_the_page_asks_for_nothing_and_runs_nothing(html: str) -> None:
    assert len(html.encode()) < LIMIT_BYTES
    assert not re.search(r"https?:|//[a-z]|@import|javascript:", html)
    assert all(url.startswith("#") for url in re.findall(r"url\((.*?)\)", html))
    page = Page(html)
    assert not {"script", "iframe", "object", "embed", "form", "img"} & {t for t, _ in page.tags}
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,"))
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none';")


def test_the_page_can_be_read_by_everyone(html: str) -> None:
    page = Page(html)
    tags = [tag for tag, _ in page.tags]
    assert ("html", {"lang": "en"}) in page.tags
    assert tags.count("table") == tags.count("caption")
    assert tags.count("h1") == 1
    for tag, attributes in page.tags:
        if tag == "svg" and attributes.get("aria-hidden") != "true":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
        if tag == "th":
            assert attributes["scope"] in ("row", "col")
    metas = {attributes.get("name") for tag, attributes in page.tags if tag == "meta"}
    assert {"viewport", "color-scheme"} <= metas


def test_ids_are_unique_and_each_reference_has_its_target(html: str) -> None:
    ids = re.findall(r'\bid="([^"]*)"', html)
    assert len(ids) == len(set(ids)) > 20
    used = re.findall(r'(?:href|aria-labelledby)="#?([^":]+)"', html)
    used += re.findall(r"url\(#([^)]*)\)", html)
    assert set(used) <= set(ids)


def test_pictures_take_their_colours_from_the_style_sheet(html: str) -> None:
    pictures = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert len(pictures) > 60
    variables = set(re.findall(r"--([a-z0-9]+):", html))
    for picture in pictures:
        assert not re.search(r"#[0-9a-f]{3,6}\b(?!-)|rgb|DejaVu", picture)
        assert set(re.findall(r"var\(--([a-z0-9]+)\)", picture)) <= variables


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_text_from_outside_stays_text_in_html(name: str, harmless: tuple[str, str]) -> None:
    found = report_html(hostile(name))
    page = Page(found)
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    tags = [tag for tag, _ in page.tags]
    assert tags.count("svg") == [t for t, _ in Page(harmless[0]).tags].count("svg")
    assert "49 {" not in found
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", found)
    if name.strip() and name.isprintable():
        assert "".join(page.text).count(name) > 10


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_text_from_outside_stays_text_in_markdown(name: str, harmless: tuple[str, str]) -> None:
    found = report_markdown(hostile(name))
    plain = harmless[1]
    assert "<" not in found
    assert len(found.splitlines()) == len(plain.splitlines()), "a line break got in"
    for line, expected in zip(found.splitlines(), plain.splitlines(), strict=True):
        pipes = re.findall(r"(?<!\\)(?:\\\\)*\|", line)
        assert len(pipes) == expected.count("|"), "a pipe makes a column"
    assert not re.search(r"(?<!\\)[\[`*$]", found)


def test_a_figure_that_does_not_exist_says_why(html: str) -> None:
    for text in (html, report_markdown(example())):
        assert re.search(r"\u2013.{0,60}all labels are 30 s", text, flags=re.DOTALL)
    assert "no group column: data.group is not set" in html


def test_a_task_without_its_headline_figure_says_why() -> None:
    task = (
        example()
        .tasks[0]
        .model_copy(
            update={
                "figures": {"auc": Figure(value=None, reason="all labels are 1")},
                "curves": Curves(),
                "baseline_curves": None,
            }
        )
    )
    report = example(tasks=(task,), training=None)
    assert "ctr: no AUC: all labels are 1" in report_markdown(report)
    assert "all labels are 1" in report_html(report)


def test_the_headline_is_a_sentence_per_task() -> None:
    found = report_markdown(example())
    assert (
        "- ctr AUC 0.7711 (0.7694 to 0.7727), +0.0021 against baseline, p = .003: "
        "better than the baseline\n" in found
    )
    assert (
        "- cvr AUC 0.7142 (0.7104 to 0.7180), \u22120.0004 against baseline, p = .80: no " in found
    )
    assert "p &lt; .001: worse than the baseline" in found


def test_the_least_report_is_a_page_too() -> None:
    report = example(
        tasks=(), slices=(), training=None, baseline=None, warnings=(), user=None, revision=None
    )
    page = Page(report_html(report))
    text = " ".join(page.text)
    for said in ("No task was evaluated", "No slices", "No curves", "no baseline given",
                 "training's log was not found", "each row on its own"):  # fmt: skip
        assert said in text
    assert "warnings" not in " ".join(a.get("class") or "" for _, a in page.tags)
    assert report_markdown(report).startswith("# Evaluation of globo-marigold\n")


def test_the_worst_twenty_slices_are_seen_at_once_and_all_are_there(html: str) -> None:
    before, _, after = html.partition("The other 40 slices")
    assert before.count('class="whisker') == 20
    assert after.count('class="whisker') == 40
    assert "2 of 60 slices are clearly worse, 7 clearly better." in html
    assert report_markdown(example()).count("= ") > 10


def test_very_many_slices_stay_within_the_limit_and_say_what_is_left_out(html: str) -> None:
    many = tuple(of for i in range(40) for of in example().slices)
    found = report_html(without_pictures(slices=many))
    assert len(found.encode()) + len(html.encode()) < LIMIT_BYTES
    assert "1,800 more slices are in report.json" in found


def test_an_evaluation_without_baseline_has_no_empty_columns() -> None:
    def alone(task: TaskReport) -> TaskReport:
        figures = {
            name: Figure(value=of.value, reason=of.reason) for name, of in task.figures.items()
        }
        return task.model_copy(
            update={"figures": figures, "curves": Curves(), "baseline_curves": None}
        )

    def untested(of: Slice) -> Slice:
        nothing = dict.fromkeys(("difference_low", "difference_high", "p_value", "q_value"))
        return of.model_copy(update={"against": "all rows", **nothing})

    whole = example()
    report = example(
        baseline=None,
        training=None,
        tasks=tuple(map(alone, whole.tasks)),
        slices=tuple(map(untested, whole.slices)),
    )
    found = report_html(report)
    assert "Baseline" not in found
    assert "not tested" in found
    assert "from all rows" in found


def test_without_a_baseline_slices_differ_and_none_is_worse() -> None:
    """A strong feature such as position splits the rows into harder and easier ones."""
    slices = tuple(of.model_copy(update={"against": "all rows"}) for of in example().slices)
    report = example(baseline=None, slices=slices)
    tested = [of for of in slices if of.q_value is not None and of.q_value < 0.05]
    assert len(tested) == 9, "in the example 2 are worse and 7 better than the baseline"
    for text in (report_markdown(report), report_html(report)):
        shown = text[text.index("9 of 60 slices") :]
        assert shown.startswith("9 of 60 slices differ clearly from all rows")
        assert "clearly worse" not in text
        assert "Worst slices" not in text
        assert "The worst " not in text
    assert "differ" in report_markdown(report).partition("## Slices")[2].splitlines()[0]
    page = report_html(report).partition('id="slices"')[2].partition('id="training"')[0]
    assert 'class="worse"' not in page
    assert 'class="better"' not in page
    nothing = tuple(of.model_copy(update={"q_value": 0.9}) for of in slices)
    assert "None of 60 slices differs" in report_markdown(example(baseline=None, slices=nothing))


def test_the_baseline_stands_beside_the_model(html: str) -> None:
    baseline = example().baseline
    assert isinstance(baseline, Model)
    assert baseline.config_hash in html
    assert "Package versions (they differ)" in html


def test_the_schema_in_the_docs_is_the_one_of_the_types() -> None:
    found = (ROOT / "docs/report.schema.json").read_text(encoding="utf-8")
    assert json.loads(found) == json.loads(schema_text()), (
        "run: python -m marigold_rec.reporting.schema > docs/report.schema.json"
    )
