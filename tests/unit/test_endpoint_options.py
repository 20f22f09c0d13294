"""Options of the commands that ask chat endpoints: fields of requests that some servers refuse."""

import argparse

import pytest

from emojax.cli.agent_endpoints import add_agent_options, endpoints_of
from emojax.cli.endpoint_options import add_endpoint_options, endpoint_of

URL = "http://localhost:8000/v1"
RENAMED = (("max_tokens", "max_completion_tokens"),)


def parse(add, *words):
    parser = argparse.ArgumentParser()
    add(parser)
    parser.set_defaults(seed=3)
    if add is add_endpoint_options:
        parser.add_argument("--endpoint", default=URL)
    return parser.parse_args([str(w) for w in words])


def test_fields_are_left_out_and_renamed():
    words = ("--leave-out", "seed,temperature", "--rename", "max_tokens=max_completion_tokens")
    one = endpoint_of(parse(add_endpoint_options, *words, "--max-reply", 900), "judge")
    assert (one.left_out, one.renamed, one.max_tokens) == (("seed", "temperature"), RENAMED, 900)
    sent = one.request([])
    assert sent == {"model": "judge", "messages": [], "max_completion_tokens": 900}
    args = parse(add_agent_options, *words, "--endpoint", URL, "--model", "m")
    agents = endpoints_of(args, ["visual", "reasoning"])
    assert {(e.left_out, e.renamed) for e in agents.values()} == {(one.left_out, RENAMED)}


def test_each_agent_has_fields_of_its_own(tmp_path):
    file = tmp_path / "agents.toml"
    table = f'[visual]\nurl = "{URL}"\nmodel = "m"\n'
    own = 'leave_out = ["seed"]\n[visual.rename]\nmax_tokens = "max_completion_tokens"\n'
    file.write_text(table + own, encoding="utf-8")
    found = endpoints_of(parse(add_agent_options, "--agents", file), ["visual"])["visual"]
    assert (found.left_out, found.renamed) == (("seed",), RENAMED)
    file.write_text(table, encoding="utf-8")  # those of the options, if the file has none
    args = parse(add_agent_options, "--agents", file, "--leave-out", "seed")
    assert endpoints_of(args, ["visual"])["visual"].left_out == ("seed",)
    for wrong, message in (
        ('leave_out = ["mood"]', "'mood' is not one of temperature"),
        ('leave_out = "seed"', "needs a list"),
        ("rename = {sede = 'x'}", "'sede' is not one of .*; did you mean 'seed'"),
        ("rename = 5", "needs a table"),
    ):
        file.write_text(table + wrong, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            endpoints_of(parse(add_agent_options, "--agents", file), ["visual"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--leave-out", "mood"), "'mood' is not one of temperature, max_tokens, seed"),
        (("--rename", "max_tokens"), "give FIELD=NAME"),
        (("--rename", "mood=x"), "'mood' is not one of"),
    ],
)
def test_other_fields_are_refused(words, message, capsys):
    with pytest.raises(SystemExit):
        parse(add_endpoint_options, *words)
    assert message in capsys.readouterr().err
