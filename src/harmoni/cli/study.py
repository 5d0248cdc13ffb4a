"""`harmoni study`: look into what a hospital has stored. Every look is audited."""

from typing import Annotated

import typer

from harmoni import config as settings
from harmoni.archive import operate
from harmoni.cli import options, output

app = typer.Typer(help="Studies of one hospital.", no_args_is_help=True)


@app.command()
def find(
    *,
    config: options.Config,
    hospital: options.Hospital,
    patient_id: Annotated[str | None, typer.Option(help="Patient ID, * and ? allowed.")] = None,
    patient_name: Annotated[str | None, typer.Option(help="Name, * and ? allowed.")] = None,
    study_date: Annotated[str | None, typer.Option(help="YYYYMMDD, or from-to.")] = None,
    accession_number: Annotated[str | None, typer.Option(help="Accession Number.")] = None,
    modality: Annotated[str | None, typer.Option(help="A modality in the study.")] = None,
    study_uid: Annotated[str | None, typer.Option(help="Study Instance UID.")] = None,
    json: options.AsJSON = False,
) -> None:
    """Find studies by what a C-FIND could ask for."""
    keys = {
        "PatientID": patient_id,
        "PatientName": patient_name,
        "StudyDate": study_date,
        "AccessionNumber": accession_number,
        "ModalitiesInStudy": modality,
        "StudyInstanceUID": study_uid,
    }
    filters = {keyword: value for keyword, value in keys.items() if value is not None}
    studies = operate.find_studies(settings.load_archive(config), hospital, filters)
    output.rows(studies, json_wanted=json, empty="no study matches")


@app.command()
def show(
    study_uid: Annotated[str, typer.Argument(metavar="UID", help="Study Instance UID.")],
    config: options.Config,
    hospital: options.Hospital,
    json: options.AsJSON = False,
) -> None:
    """Show one study: its series, its packs and how safe they are."""
    study = operate.show_study(settings.load_archive(config), hospital, study_uid)
    output.facts(study, json_wanted=json)
