"""From a PACS's request for commitment to the report, through the gateway, with the quiet times
that an installation has by default and the line free."""

import random
import time

import centre as archives
import whole
from harmoni.config.gateway import GatewaySection
from harmoni.config.sections import PackSection

LONGEST_S = 60.0  # half of what is promised for the slowest of a hundred
ARCHIVE = PackSection()
SETTINGS = [
    f"pack.quiet_s={ARCHIVE.quiet_s}",
    f"pack.commitment_quiet_s={ARCHIVE.commitment_quiet_s}",
    f"gateway.commit_after_s={GatewaySection.model_fields['commit_after_s'].default}",
]


def test_a_commitment_is_reported_well_within_two_minutes(tmp_path):
    (tmp_path / "files").mkdir()
    samples = archives.write_instances(
        tmp_path / "files", "1.2.3.4", [50_000] * 20, random.Random("time")
    )
    with (
        whole.running(tmp_path / "all", settings=SETTINGS) as running,
        whole.listening(running.house().peers[0]) as pacs,
    ):
        assert not running.requestor().store(samples, lambda _: None)
        began_s = time.monotonic()
        status, transaction = running.request_commitment(samples)
        assert status == 0
        report = pacs.await_report(transaction, LONGEST_S)
        took_s = time.monotonic() - began_s
    print(f"request to report with default quiet times: {took_s:.1f} s")  # noqa: T201
    assert "FailedSOPSequence" not in report
    assert len(report.ReferencedSOPSequence) == len(samples)
