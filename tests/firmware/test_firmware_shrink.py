"""What is frozen: packages are laid flat, and the program still does what it did."""

import subprocess
import sys
from pathlib import Path

SHRINK = Path(__file__).resolve().parents[2] / "agent/firmware/shrink.py"
FILES = {
    "main.py": "import one.deep.leaf\nfrom one import deep, state as kept\nfrom one.deep import leaf\n"
    "from two import state\nfrom two.clock import now\nprint(kept.NAME, state.what(), leaf.what(), now())\n",
    "one/__init__.py": "from one.deep import leaf\nEVERYBODY = leaf\n",
    "one/deep/__init__.py": '"""Only holds modules."""\n',
    "one/deep/leaf.py": "from one import state\ndef what():\n    return state.NAME + '!'\n",
    "one/state.py": "NAME = str(1)\n",
    "two/__init__.py": "",
    "two/state.py": "from one import state\ndef what():\n    return state.NAME * 2\n",
    "two/clock.py": "def now():\n    return 'noon'\n",
}


def test_modules_lie_side_by_side_and_those_of_one_name_stay_apart(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    for name, text in FILES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    (tmp_path / "c").mkdir()
    (tmp_path / "c/port.c").write_text("MP_QSTR_clock")  # C has a module of that name
    packages = [f"{name}={source}" for name in ("one", "two")]
    command = [sys.executable, SHRINK, source / "main.py", out, *packages, tmp_path / "c"]
    subprocess.run(command, check=True)
    said = subprocess.run([sys.executable, "main.py"], cwd=out, capture_output=True, text=True, check=True)
    assert said.stdout == "1 11 1! noon\n"
    assert not [path for path in out.iterdir() if path.is_dir()]
    assert len(list(out.glob("*.py"))) == 5  # main, leaf, clock, both of the name state: no package
    assert not (out / "clock.py").exists()


ROWS = {
    "main.py": "from one import Flash, Board\nprint(Flash().size(), Board().size())\n",
    "rows/first.py": "SIZE, UNUSED = 7, 1\n",
    "one.py": "from rows import first\n\ndef doubled(row):\n    return 2 * row.SIZE\n\n"
    "class Flash:\n    ROW = first\n    def size(self):\n        return doubled(self.ROW)\n\n"
    "class Board:\n    ROW = first\n    def size(self):\n        return self.ROW.SIZE\n",
}


def test_module_that_is_handed_on_keeps_its_constants(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    for name, text in ROWS.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    packages = [f"{name}={source}" for name in ("rows", "one")]
    subprocess.run([sys.executable, SHRINK, source / "main.py", out, *packages], check=True)
    said = subprocess.run([sys.executable, "main.py"], cwd=out, capture_output=True, text=True, check=True)
    assert said.stdout == "14 7\n"
    text = "".join(path.read_text() for path in out.glob("*.py"))
    assert "return 7" in text, "what is the same for all is in place"


ELSEWHERE = {
    "main.py": "from fota_agent.agent import make, start\nprint(make(None), make(1), start())\n",
    "fota_agent/agent.py": "def make(transport):\n    import sys\n    if transport is None:\n"
    "        from fota_agent.transport.tls_cpython import transport_for\n"
    "        return transport_for(sys.path)\n    return transport\n\n"
    "def start():\n    import sys\n    if sys.version:\n"
    "        from fota_agent.runner.background import keep_stepping\n        keep_stepping()\n",
}


def test_what_begins_with_a_module_that_is_left_out_is_left_out(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    (source / "fota_agent").mkdir(parents=True)
    for name, text in ELSEWHERE.items():
        (source / name).write_text(text)
    subprocess.run([sys.executable, SHRINK, source / "main.py", out, f"fota_agent={source}"], check=True)
    said = subprocess.run([sys.executable, "main.py"], cwd=out, capture_output=True, text=True, check=True)
    assert said.stdout == "None 1 None\n"
    text = "".join(path.read_text() for path in out.glob("*.py"))
    assert "tls_cpython" not in text
    assert "import sys" not in text, "nobody uses it any more"
