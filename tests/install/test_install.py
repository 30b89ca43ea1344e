"""An unchanged program gets our clients: by `install()`, or by the command that runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("schematic.client")

WITHOUT = """
import sys

class Nobody:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "schematic":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Nobody())
"""


def run(code: str, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, *arguments] if arguments else [sys.executable, "-c", code]
    return subprocess.run(words, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload, no-any-return]


def output(code: str) -> str:
    done = run(textwrap.dedent(code))
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout


def test_names_of_the_published_client_are_ours_from_then_on() -> None:
    output("""
        import schematic_native
        schematic_native.install()
        schematic_native.install()
        from schematic.client import AsyncSchematic, CheckOptions, Schematic, SchematicConfig
        import schematic, schematic.client as module
        assert schematic.Schematic is Schematic is schematic_native.Schematic
        assert module.CheckOptions is CheckOptions is schematic_native.CheckOptions
        assert AsyncSchematic is schematic_native.AsyncSchematic
        assert not Schematic("", SchematicConfig(offline=True)).check_flag("f")
        # Names that this package does not have stay the published ones.
        assert module.DEFAULT_RESERVATION_TTL == 60.0
        from schematic.cache import RedisCache
        assert RedisCache.__module__ == "schematic.cache.redis"
        schematic_native.uninstall()
        from schematic.client import Schematic
        import schematic.client as module
        assert Schematic.__module__ == module.__name__ == "schematic.client"
        assert module.CheckOptions.__module__ == "schematic.client"
        assert schematic.Schematic is Schematic
        schematic_native.uninstall()
    """)


def test_overrides_from_the_module_of_the_leases_are_ours() -> None:
    output("""
        import schematic_native
        import schematic.leases as published
        schematic_native.install()
        import schematic.leases, schematic.leases.lease_store
        from schematic.leases import LeaseConfigOverride, LeaseManager
        assert LeaseConfigOverride is schematic_native.LeaseConfigOverride
        from schematic.client import CreditLeaseConfig, Schematic, SchematicConfig
        leases = CreditLeaseConfig(overrides={"credit": LeaseConfigOverride(lease_size=10)})
        Schematic("key", SchematicConfig(use_datastream=True, credit_leases=leases))
        # Names that this package does not have stay the published ones.
        assert LeaseManager is published.LeaseManager
        schematic_native.uninstall()
        from schematic.leases import LeaseConfigOverride
        assert schematic.leases is published
        assert LeaseConfigOverride.__module__ == "schematic.leases.types"
    """)


def test_other_modules_get_our_clients(tmp_path: Path) -> None:
    (tmp_path / "billing.py").write_text(
        "import schematic.client\nfrom schematic.client import Schematic\n"
        "made = schematic.client.SchematicConfig()\n"
    )
    output(f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        import schematic_native
        schematic_native.install()
        import billing
        assert billing.Schematic is schematic_native.Schematic
        assert isinstance(billing.made, schematic_native.SchematicConfig)
    """)


def test_modules_that_imported_too_early_are_named_and_keep_working() -> None:
    output("""
        import types, sys, warnings
        from schematic.client import CheckFlagOptions, Schematic, SchematicConfig
        early = types.ModuleType("early")
        early.Client = Schematic
        sys.modules["early"] = early
        import schematic_native
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            schematic_native.install()
        texts = [str(each.message) for each in caught]
        assert len(texts) == 2 and {each.category for each in caught} == {RuntimeWarning}
        assert "too late for __main__" in texts[0] and "too late for early" in texts[1]
        client = Schematic("", SchematicConfig(offline=True, flag_defaults={"f": True}))
        assert client.check_flag("f", options=CheckFlagOptions(usage=1))
    """)


def test_the_published_package_need_not_be_installed() -> None:
    said = output(WITHOUT + textwrap.dedent("""
        import schematic_native
        schematic_native.install()
        from schematic import EventBodyIdentifyCompany, Schematic
        from schematic.client import CheckOptions
        from schematic.cache import RedisCache
        from schematic.leases import LeaseConfigOverride
        from schematic.webhook_utils import verify_signature
        import schematic.client
        assert schematic.client.Schematic is Schematic is schematic_native.Schematic
        schematic_native.uninstall()
        try:
            import schematic.client
        except ModuleNotFoundError:
            print("gone")
    """))  # fmt: skip
    assert said == "gone\n"


def test_the_command_runs_a_program_as_python_does(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("from schematic.client import Schematic\n")
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import json, pickle, sys
            from dataclasses import dataclass
            from helper import Schematic

            @dataclass
            class Thing:
                name: str

            if __name__ == "__main__":
                import __main__
                assert __main__.Thing is Thing and __main__.__file__ == __file__ == sys.argv[0]
                assert pickle.loads(pickle.dumps(Thing("x"))) == Thing("x")
                print(json.dumps([Schematic.__module__.partition(".")[0], sys.argv[1:]]))
                sys.exit(3)
        """)
    )
    done = run("", "-m", "schematic_native.install", str(program), "a", "--b")
    assert (done.returncode, done.stderr) == (3, "")
    assert json.loads(done.stdout) == ["schematic_native", ["a", "--b"]]


def test_a_spawned_process_gets_our_clients_as_well(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import multiprocessing
            from schematic.client import Schematic

            def tell(number):
                return number, Schematic.__module__.partition(".")[0]

            if __name__ == "__main__":
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    print(pool.apply(tell, [7]))
        """)
    )
    done = run("", "-m", "schematic_native.install", "program.py", cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("(7, 'schematic_native')\n", "")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "usage:"),
        (["--help"], 0, "usage:"),
        (["none.py"], 1, "no file 'none.py'"),
    ],
)
def test_the_command_prints_its_usage(arguments: list[str], status: int, said: str) -> None:
    done = run("", "-m", "schematic_native.install", *arguments)
    assert done.returncode == status
    assert said in (done.stderr if status else done.stdout)


def test_an_exception_of_the_program_passes_through(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("1 / 0\n")
    done = run("", "-m", "schematic_native.install", os.fspath(program))
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("ZeroDivisionError: division by zero")
    assert f'File "{program}", line 1' in done.stderr
