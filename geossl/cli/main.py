"""The command line: a function is a command, and tyro reads its signature and docstring.

Every error that a user can cause ends with one sentence and exit status 2.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import io
import json
import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

# Idle threads that spin long cost up to 20x on a busy machine, those that sleep at once a sixth on
# an idle one: they spin for some 50 us (GNU's OpenMP) or not at all. Set before torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import tyro

__all__ = ["main"]

_DESCRIPTION = "Learn from where and when an image was taken."
_SCENES = "Make a scene table (what there is, where and when), or describe one."
_COMMANDS = {  # module and function; only the module of the command that runs is imported
    "fetch": "data.fetch",
    "stac": "stac.stac",
    "scenes blue-marble": "data.scenes_blue_marble",
    "scenes geotiff": "data.scenes_geotiff",
    "scenes open": "data.scenes_open",
    "scenes describe": "data.scenes_describe",
    "chips": "data.chips",
    "stream": "data.stream",
    "clusters": "data.clusters",
    "pretrain": "train.pretrain",
    "embed": "train.embed",
    "probe": "evaluate.probe",
    "retrieve": "evaluate.retrieve",
    "compare": "compare.compare",
    "map": "evaluate.map",
    "demo": "demo.demo",
    "doctor": "doctor.doctor",
}
_FUNCTIONS = {  # in messages -> the command that does the same
    "`open_scenes`": "scenes open",
    "GeoClusters.save()": "clusters",
}
# of an option, as Python has it
_VALUE = r"r?\"[^\"]*\"|r?'[^']*'|\([^)]*\)|\[[^]]*\]|[\w+-]+(?:\.\w+)*(?:\(\))?"
_READS = re.compile(
    r"models\.with_bands\([^)]*\), or --bands on the command line|`reads`(, (or )?--bands)?"
)
_OLD_COMMANDS = {"check": "doctor", "transfer": "compare"}
_OLD_OPTIONS = {
    "--accumulate": "--accumulation-steps",
    "--batch": "--batch-size",
    "--checkpoint-s": "--checkpoint-every-s",
    "--colour": "--color",
    "--dim": "--projection-dim",
    "--grey": "--grayscale",
    "--queue": "--queue-size",
    "--workers": "--num-workers",
}


def main(args: Sequence[str] | None = None) -> None:
    """Run ``geossl`` or ``python -m geossl``.

    Args:
        args: the words after the program's name; those of this process if None.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # into a file on Windows few letters are written
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with _silent_unless_first():
            _run(list(sys.argv[1:] if args is None else args))
    except KeyboardInterrupt:
        _print_error("Stopped. Run the same command again to resume.")
        raise SystemExit(130) from None
    except ConnectionError as error:
        _print_error(error, processes=2)  # the first process may be the one that died
        raise SystemExit(2) from None
    except (ValueError, TypeError, OSError, ImportError) as error:
        _print_error(error)
        raise SystemExit(2) from None


def _use_flags(message: str, command: Callable[..., None]) -> str:
    """Write the options of a command as on the command line: ``k=3`` as ``--k 3``."""
    if "`open_scenes`" in message:  # then its options are meant
        command = _load("scenes open")
    for name, words in _FUNCTIONS.items():
        message = message.replace(name, f"`geossl {words}`")
    if "skip_bad" not in inspect.signature(command).parameters:  # no advice to use it
        message = re.sub(r",? or [^.,]*skip_bad=True[^.]*(?=\.)", "", message)
    names: list[str] = []
    for name, parameter in inspect.signature(command).parameters.items():
        settings = getattr(parameter.default, "__dataclass_fields__", None)
        names += [] if parameter.kind is not parameter.KEYWORD_ONLY else settings or [name]
    for name in names:
        flag = "--" + name.replace("_", "-")
        for call in re.finditer(rf"`?(?<![\w/.]){name}=({_VALUE})`?", message):
            message = message.replace(call[0], _flag(flag, call[1]))
        message = message.replace(f"`{name}`", f"`{flag}`")
    if "batch_size" not in names:  # nor to lower it
        message = message.replace("`batch_size` or ", "")
    if "bands" in names:  # which are those that an encoder reads
        message = _READS.sub("`--bands`", message)
    if "option" in inspect.signature(command).parameters:  # NAME=VALUE of a data set
        from geossl.datasets.registry import option_names

        for name in option_names():
            for call in re.finditer(rf"`{name}=({_VALUE}|\{{.*?\}})`", message):
                text = call[1]
                with contextlib.suppress(ValueError, SyntaxError):  # such as (lowest, highest)
                    value = ast.literal_eval(call[1])
                    text = value if isinstance(value, str) else json.dumps(value)
                message = message.replace(call[0], f"`--option {shlex.quote(f'{name}={text}')}`")
            message = message.replace(f"`{name}`", f"`--option {name}=...`")
    return message


def _flag(flag: str, value: str) -> str:
    """Write a flag with a value of Python: a text, a sequence of numbers, or one word."""
    if value == "False":
        return f"`{flag.replace('--', '--no-', 1)}`"
    if value.endswith("()"):  # pairs=same_image()
        return f"`{flag} {value[:-2].replace('_', '-')}`"
    if value.removeprefix("r")[:1] in ("'", '"'):
        words = [shlex.quote(ast.literal_eval(value))]
    else:
        words = [word for word in re.split(r"[()\[\], ]+", value) if word not in ("", "True")]
    return "`" + " ".join([flag, *words]) + "`"


def _run(words: list[str]) -> None:
    if words and words[0] in _OLD_COMMANDS:
        old, words[0] = words[0], _OLD_COMMANDS[words[0]]
        _print_error(f"`{old}` is now `{words[0]}`; the old name goes in version 0.3.")
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in _COMMANDS:
            command, options = _load(name), words[length:]
            options = _join_options(_rename_old_options(options, command))
            if name == "pretrain":
                command = importlib.import_module("geossl.cli.train").with_preset(options)
            style = (tyro.conf.PositionalMetavarFromFieldName,)
            try:
                with _plain_warnings(command):
                    tyro.cli(command, prog=f"geossl {name}", args=options, config=style)
            except ConnectionError:
                raise
            except (ValueError, TypeError, OSError) as error:
                _print_error(_use_flags(str(error), command))
                raise SystemExit(2) from None
            return
    group = "scenes " if words[:1] == ["scenes"] else ""
    tyro.extras.subcommand_cli_from_dict(  # no command is named: prints the list, or what is wrong
        {name.removeprefix(group): _summary(name) for name in _COMMANDS if name.startswith(group)},
        prog=f"geossl {group}".strip(),
        description=_SCENES if group else _DESCRIPTION,
        args=words[1:] if group else words,
    )


def _summary(name: str) -> Callable[[], None]:
    """Return a function with the first line of a command's docstring, without importing it."""
    module, function = _COMMANDS[name].split(".")
    source = (Path(__file__).parent / f"{module}.py").read_text("utf-8")
    nodes = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    docstring = next(ast.get_docstring(node) or "" for node in nodes if node.name == function)

    def command() -> None:
        pass

    command.__doc__ = docstring.partition("\n")[0]
    return command


def _load(name: str) -> Callable[..., None]:
    module, function = _COMMANDS[name].split(".")
    return getattr(importlib.import_module(f"geossl.cli.{module}"), function)


def _rename_old_options(options: Sequence[str], command: Callable[..., None]) -> list[str]:
    """Replace the options of version 0.1 by their new names, and say so."""
    output = "--output-dir" if "output_dir" in inspect.signature(command).parameters else "--output"
    new_names = {**_OLD_OPTIONS, "--out": output}
    renamed = []
    for option in options:
        name, equals, value = option.partition("=")
        if name in new_names:
            _print_error(f"`{name}` is now `{new_names[name]}`; the old name goes in version 0.3.")
            name = new_names[name]
        renamed.append(name + equals + value)
    return renamed


def _join_options(words: list[str]) -> list[str]:
    """Make one ``--option`` of several, of which tyro would keep the last only."""
    if sum(word.partition("=")[0] == "--option" for word in words) < 2:
        return words
    rest: list[str] = []
    values: list[str] = []
    is_value = False
    for word in words:
        name, _, value = word.partition("=")
        if name == "--option":
            is_value = True
            values += [value] if value else []
        elif is_value and "=" in word and word[0] != "-":
            values.append(word)
        else:
            is_value = False
            rest.append(word)
    return [*rest, "--option", *values]


def _local_rank() -> int:
    """Return which of the processes that torchrun started on this machine this is, else 0."""
    return int(os.environ.get("LOCAL_RANK", 0)) if "TORCHELASTIC_RUN_ID" in os.environ else 0


@contextlib.contextmanager
def _silent_unless_first() -> Iterator[None]:
    """Print nothing unless this is the first process of a machine, which speaks for all."""
    if _local_rank() == 0:
        yield
        return
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


@contextlib.contextmanager
def _plain_warnings(command: Callable[..., None]) -> Iterator[None]:
    """Print what looks wrong with a user's data as a line, without Python's place in the code."""
    with warnings.catch_warnings():
        from geossl.data.notices import DataWarning

        show = warnings.showwarning
        warnings.simplefilter("always", DataWarning)
        warnings.showwarning = lambda text, kind, *rest: (
            _print_error(_use_flags(str(text), command))
            if issubclass(kind, DataWarning)
            else show(text, kind, *rest)
        )
        yield


def _print_error(message: object, *, processes: int = 1) -> None:
    if _local_rank() < processes:
        sys.stderr.write(f"geossl: {message}\n")
        sys.stderr.flush()
