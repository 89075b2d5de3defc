"""The options that say how to restore: one home, the same in every command that has them."""

import subprocess
import sys
from dataclasses import fields
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from latentsr.apps import cli
from latentsr.apps.batch import command
from latentsr.apps.loading import Loader
from latentsr.apps.options import Settings, takes_settings
from latentsr.errors import UsageError
from latentsr.options import Options


@pytest.fixture
def asked():
    """What a command that takes settings makes of some words: its exit code, and the options and loader."""
    app, seen = typer.Typer(), SimpleNamespace(options=None, loader=None, decided=None)

    @app.command()
    @takes_settings
    def restore(settings: Settings, name: str = "x") -> None:
        seen.options, seen.loader, seen.decided = settings.options, settings.loader, settings.decided

    def run(*words: str) -> SimpleNamespace:
        done = CliRunner().invoke(app, list(words))
        if isinstance(done.exception, UsageError):
            raise done.exception
        return SimpleNamespace(code=done.exit_code, text=done.output, **vars(seen))

    return run


EACH = {
    "--head vocoder": {"head": "vocoder"},
    "--steps 7": {"steps": 7},
    "--guidance 2.5": {"guidance_scale": 2.5},
    "--temperature 0.5": {"temperature": 0.5},
    "--seed 3": {"seed": 3},
    "--denoise": {"denoise": True},
    "--repair": {"repair": True},
    "--cutoff 5500": {"cutoff_hz": 5500.0},
    "--use-latents": {"use_latents": True},
    "--mid-side": {"mid_side": True},
    "--amount -6dB": {"amount": "-6dB"},
    "--amount 50%": {"amount": 0.5},
    "--tilt -3": {"tilt": -3.0},
    "--sibilance 4.5": {"sibilance": 4.5},
    "--ceiling 16000": {"ceiling_hz": 16_000.0},
    "--no-floor": {"no_floor": True},
    "--sample-rate 44100": {"sample_rate": 44_100},
    "--sample-rate source": {"sample_rate": "source"},
    "--salvage": {"salvage": True},
    "--on-nonfinite zero": {"on_nonfinite": "zero"},
    "--track 2": {"track": 2},
    "--no-timeline": {"no_timeline": True},
    "--format flac": {"format": "flac"},
    "--overwrite": {"overwrite": True},
    "--compat --model m": {"compat_filter": "ellip", "seed": 42},
    "--compat --model m --seed 1 --compat-filter butter": {"compat_filter": "butter", "seed": 1},
}


@pytest.mark.parametrize("words", EACH)
def test_each_option_changes_its_field_alone(asked, words):
    assert asked(*words.split()).options == Options(**EACH[words])


def test_every_field_of_options_can_be_asked_for():
    assert {name for change in EACH.values() for name in change} == {
        field.name for field in fields(Options) if "choice" in field.metadata
    }


def test_the_model_is_asked_for_by_a_loader(asked):
    words = ["--model", "m", "--head", "vocoder", "--device", "cpu", "--dtype", "bfloat16", "--vocoder", "embedded"]
    assert asked(*words).loader == Loader("m", "vocoder", "cpu", "bfloat16", "embedded")


RATES = ["0", "999", "768001", "-1", "fast", "", "48k", "4" * 5_000, "0000480001", "\u0664\u0668"]


@pytest.mark.parametrize("rate", RATES)
def test_a_rate_is_a_number_or_the_sources(asked, rate):
    done = asked("--sample-rate", rate)
    assert done.code == 2
    assert "neither 'source' nor Hz from 1000 to 768000" in " ".join(done.text.replace("\u2502", " ").split())


@pytest.mark.parametrize("words", ["--compat", "--compat-filter butter", "--compat --model m --denoise"])
def test_what_compat_cannot_do_is_wrong_usage(asked, words):
    with pytest.raises(UsageError, match="--compat"):
        asked(*words.split())


@pytest.mark.parametrize("words", [
    "--amount 0% --tilt 3", "--amount 0% --sibilance 3", "--amount 0% --ceiling 9000", "--vocoder embedded",
    "--head live --dtype bfloat16", "--steps 3", "--head vocoder --use-latents", "--head live --mid-side",
    "--mid-side --cutoff 4000", "--ceiling 4000 --cutoff 5000", "--head diffwave-mamba --denoise",
    "--head vocoder --repair",
])  # fmt: skip
def test_what_changes_nothing_beside_the_others_is_wrong_usage(asked, words):
    with pytest.raises(UsageError, match="leave .*out|choose one of"):
        asked(*words.split()).decided()


@pytest.mark.parametrize("words", ["--workers 2", "--retries 2", "--address x"])
def test_what_one_process_has_no_use_for_is_wrong_usage(words, tmp_path):
    app = typer.Typer()
    app.command()(command.batch_command)
    done = CliRunner().invoke(app, [str(tmp_path), str(tmp_path / "out"), "--engine", "serial", *words.split()])
    assert isinstance(done.exception, UsageError) and "--engine" in str(done.exception)


def test_batch_has_every_option_of_restore():
    options = [set(_options(function)) for function in (cli.restore, command.batch_command)]
    assert options[0] - options[1] == {"inputs", "output", "out_dir", "write_band", "draws", "best", "album"}


def _options(function) -> list[str]:
    app = typer.Typer()
    app.command()(function)
    return [parameter.name for parameter in typer.main.get_command(app).params]


def test_help_of_batch_imports_no_torch():
    code = (
        "import sys; sys.argv = ['latentsr', 'batch', '--help']\n"
        "from latentsr.apps.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'torch', 'diffusers', 'scipy', 'ray', 'numpy'} & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, "Usage: latentsr batch" in done.stdout) == (0, True), done.stderr


def test_a_loaders_key_follows_the_model_and_the_type(tmp_path):
    (tmp_path / "model_index.json").write_text("{}")
    keys = [
        Loader().key(),
        Loader(dtype="bfloat16").key(),
        Loader(str(tmp_path)).key(),
        Loader(vocoder="embedded").key(),
    ]
    (tmp_path / "model_index.json").write_text("{ }")
    keys.append(Loader(str(tmp_path)).key())
    assert len(set(keys)) == 5
    assert Loader(device="cpu").key() == Loader().key() == Loader(dtype="float32").key()
