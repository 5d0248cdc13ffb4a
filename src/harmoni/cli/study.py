"""`harmoni study`: look into what a hospital has stored. Every look is audited."""

import re
from datetime import date
from typing import Annotated, Final

import typer

from harmoni.cli import nodes, options, output
from harmoni.dicom import uids
from harmoni.model.errors import InvalidInput
from harmoni.role import oversight

app = typer.Typer(help="Studies of one hospital.", no_args_is_help=True)

_DATES: Final = re.compile(r"[0-9]{8}-?|-[0-9]{8}|[0-9]{8}-[0-9]{8}")


@app.command()
def find(
    *,
    config: options.Config,
    hospital: options.Hospital,
    patient_id: Annotated[str | None, typer.Option(help="Patient ID, * and ? allowed.")] = None,
    patient_name: Annotated[str | None, typer.Option(help="Name, * and ? allowed.")] = None,
    study_date: Annotated[str | None, typer.Option(help="YYYYMMDD, from-to, from- or -to.")] = None,
    accession_number: Annotated[str | None, typer.Option(help="Accession Number.")] = None,
    modality: Annotated[str | None, typer.Option(help="A modality in the study.")] = None,
    study_uid: Annotated[str | None, typer.Option(help="Study Instance UID.")] = None,
    json: options.AsJSON = False,
) -> None:
    """Find studies by what a C-FIND could ask for."""
    if study_date is not None:
        _require_dates(study_date)
    if study_uid is not None:
        _require_uid("--study-uid", study_uid)
    keys = {
        "PatientID": patient_id,
        "PatientName": patient_name,
        "StudyDate": study_date,
        "AccessionNumber": accession_number,
        "ModalitiesInStudy": modality,
        "StudyInstanceUID": study_uid,
    }
    filters = {keyword: value for keyword, value in keys.items() if value is not None}
    studies = oversight.find_studies(nodes.open_node(config), hospital, filters)
    output.rows(studies, json_wanted=json, empty="no study matches")


@app.command()
def show(
    study_uid: Annotated[str, typer.Argument(metavar="UID", help="Study Instance UID.")],
    config: options.Config,
    hospital: options.Hospital,
    json: options.AsJSON = False,
) -> None:
    """Show one study: its series, its packs and how safe they are."""
    _require_uid("UID", study_uid)
    study = oversight.show_study(nodes.open_node(config), hospital, study_uid)
    output.facts(study, json_wanted=json)


def _require_dates(given: str) -> None:
    """One date or a range of them (PS3.4 C.2.2.2.5), told here by the option's own name."""
    if _DATES.fullmatch(given) is None or not all(map(_is_date, filter(None, given.split("-")))):
        raise InvalidInput(
            f"--study-date {given} is no date: write YYYYMMDD, or from-to such as 20240101-20240131"
        )


def _is_date(digits: str) -> bool:
    try:
        date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return False
    return True


def _require_uid(option: str, given: str) -> None:
    """Refuse what nobody means as a UID; old archives hold UIDs with letters among the digits."""
    if not (uids.is_acceptable_uid(given) and any(map(str.isdigit, given))):
        raise InvalidInput(
            f"{option} {given} is no Study Instance UID: write digits between dots, such as 1.2.840"
        )
