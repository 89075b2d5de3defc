"""A small report to look at: two groups, two cutoffs, names that would break a careless page."""

import pytest
import soundfile
from report_page import DESCRIBED, EVIL, EVIL_NAME, RATE, hissing, programme

from latentsr.evaluation import benchmark, page, report
from latentsr.evaluation.conditions import Conditions


@pytest.fixture(scope="session")
def scored(tmp_path_factory):
    """(clips, systems, conditions, records) of four clips and three systems."""
    folder = tmp_path_factory.mktemp("references")
    for i, name in enumerate(("music/a.wav", "music/b.wav", "speech/c.wav", f"speech/{EVIL}.wav")):
        (folder / name).parent.mkdir(exist_ok=True)
        soundfile.write(folder / name, programme(seed=i), RATE, subtype="PCM_16")
    systems = [
        benchmark.unprocessed(),
        benchmark.System(EVIL_NAME, hissing),
        benchmark.System(benchmark.CEILING, lambda case: (0.9 * case.truth, None), of_truth=True),
    ]
    conditions = Conditions(cutoffs_hz=(4000, 8000))
    clips = benchmark.find_clips(folder)
    return clips, systems, conditions, benchmark.run(benchmark.Comparison(clips, systems, conditions), visqol=False)


@pytest.fixture(scope="session")
def page_file(scored, tmp_path_factory):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `eval`)")
    clips, systems, conditions, records = scored
    path = tmp_path_factory.mktemp("page") / "report.html"
    summary = report.summarise(records, seed=0)
    described = report.describe(conditions, DESCRIBED)
    scores = report.Scores(summary, records, described)
    page.write(path, benchmark.Comparison(clips, systems, conditions), scores, count=3, baseline="unprocessed")
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]
    return path
