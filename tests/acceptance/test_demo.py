"""The demo as a user meets it: the two ways to start it, on real sockets."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pydicom.data
import pytest

HARMONI = [sys.executable, "-m", "harmoni.cli"]
LONGEST_S = 300


def demo(*arguments, timeout=LONGEST_S):
    return subprocess.run(
        [*HARMONI, "demo", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.mark.timeout(LONGEST_S)
def test_the_demo_checks_all_it_claims_and_again_on_the_same_directory(tmp_path):
    for _ in range(2):
        done = demo("--dir", tmp_path, "--json")
        assert done.returncode == 0, done.stderr + (tmp_path / "dc1/archive.log").read_text()
        acts = json.loads(done.stdout)["acts"]
        assert {act["hospital"] for act in acts} == {"hospital-a", "hospital-b"}
        checked = {(act["hospital"], act["act"]): act["checked"] for act in acts}
        for hospital in ("hospital-a", "hospital-b"):
            for service in ("C-GET", "C-MOVE"):
                assert checked[hospital, service] == "26 identical, byte for byte"
            assert checked[hospital, "storage commitment"] == "26 committed"
            for role in ("archive", "gateway"):
                assert checked[hospital, f"vault rebuild at the {role}"] == "equal"
            assert checked[hospital, "evict at the gateway"].startswith("26 let go of, ")
        assert "killed in the middle" in checked["hospital-a", "C-STORE to the gateway"]
        assert checked["hospital-b", "studies of hospital-a"].startswith("none found, got or moved")


@pytest.mark.timeout(LONGEST_S)
def test_given_files_are_sent_and_what_is_no_dicom_file_is_named(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name in ("CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "rtplan.dcm"):
        data = Path(pydicom.data.get_testdata_file(name)).read_bytes()
        (source / name).write_bytes(data)
    (source / "notes.txt").write_text("no DICOM")
    done = demo("--input", source, "--hospitals", "1", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert any(note.startswith("skipped notes.txt: ") for note in report["notes"])
    assert report["failures"] == []
    acts = {act["act"]: act["checked"] for act in report["acts"]}
    assert acts["C-GET"] == "4 identical, byte for byte"


class Serving:
    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            [*HARMONI, "demo", "--serve", "--json", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.line = self.process.stdout.readline()

    def __enter__(self):
        self.state = json.loads(self.line)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=60)
        assert (out, err, self.process.returncode) == ("", "", 0)


@pytest.mark.timeout(LONGEST_S)
def test_serve_describes_itself_in_one_line_and_resumes_with_the_same_ports(tmp_path):
    with Serving("--dir", tmp_path, "--seal-after", "2", "--set", "archive.workers=1") as first:
        state = first.state
        assert state["ready"] is True
        assert state["dir"] == str(tmp_path)
        assert [hospital["id"] for hospital in state["hospitals"]] == ["hospital-a", "hospital-b"]
        archive = state["sites"][0]["archive"]
        assert len(archive["pids"]) == 3  # supervisor, one worker, keeper
        for pid in archive["pids"]:
            os.kill(pid, 0)
        paths = [archive["config"], archive["data"]]
        for hospital in state["hospitals"]:
            paths += hospital["tls"].values()
            gateway = hospital["gateway"]
            paths += [gateway["config"], gateway["data"]]
            assert len(gateway["pids"]) == 5  # supervisor, two workers, keeper, forwarder
            assert gateway["host"] == "127.0.0.1"
            assert gateway["tls_port"] == 0
            assert [peer["role"] for peer in hospital["peers"]] == ["pacs", "modality"]
        assert all(Path(path).is_absolute() and Path(path).exists() for path in paths)
        config = Path(archive["config"]).read_text()
        assert "quiet_s = 2.0" in config
        assert "workers = 1" in config
    for pid in archive["pids"]:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with Serving("--dir", tmp_path) as second:
        assert second.state["sites"][0]["archive"]["port"] == archive["port"]
        assert [hospital["gateway"]["port"] for hospital in second.state["hospitals"]] == [
            hospital["gateway"]["port"] for hospital in state["hospitals"]
        ]
        assert [hospital["peers"] for hospital in second.state["hospitals"]] == [
            hospital["peers"] for hospital in state["hospitals"]
        ]


def test_serve_tells_people_in_lines_where_everything_is(tmp_path):
    process = subprocess.Popen(
        [*HARMONI, "demo", "--serve", "--hospitals", "1", "--dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = []
    while not lines or not lines[-1].startswith("It runs until"):
        lines.append(process.stdout.readline())
        assert lines[-1], lines
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert lines[0].startswith("The archive takes DICOM over TLS at 127.0.0.1:")
    told = dict(line.split(maxsplit=1) for line in lines if line.startswith("  "))
    for name in ("configuration", "log", "certificate"):
        assert Path(told[name].strip()).exists()


def test_more_sites_than_one_are_refused():
    done = demo("--sites", "2")
    assert done.returncode == 2
    assert "--sites" in done.stderr
    assert done.stderr.count("\n") == 1
