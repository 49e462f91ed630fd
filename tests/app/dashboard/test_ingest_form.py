"""The form of the page Ingest keeps what stands in it while another page is looked at."""

from app.dashboard.page_ingest import NEW
from pipelines import open_store


def look_elsewhere(at):
    """Have a run of the page without its form, as when another page is shown, and come back."""
    at.query_params["job"] = "none"
    at.run()
    assert not at.text_input
    at.query_params.clear()
    return at.run()


def test_what_was_filled_in_is_there_again(run_page, folder):
    at = run_page("ingest", folder)
    at.text_input(key="path-Corpus").set_value("/data/notes")
    at.text_input(key="ingest-name").set_value("harbour")
    at.text_input(key="ingest-why").set_value("asked for")
    at.number_input(key="ingest-seed").set_value(7)
    at.run()
    at = look_elsewhere(at)
    assert not at.exception
    assert at.text_input(key="path-Corpus").value == "/data/notes"
    assert at.text_input(key="ingest-name").value == "harbour"
    assert at.text_input(key="ingest-why").value == "asked for"
    assert at.number_input(key="ingest-seed").value == 7
    assert not at.warning, "a widget with two values of its own is told by Streamlit"
    at.text_input(key="ingest-name").set_value("").run()
    assert look_elsewhere(at).text_input(key="ingest-name").value == "", "emptied is emptied"


def test_a_path_comes_back_with_its_choice(run_page, folder):
    at = run_page("ingest", folder)
    at.text_input(key="path-Corpus").set_value("/data/notes").run()
    here, upload = at.radio(key="ingest-place").options
    at.radio(key="ingest-place").set_value(upload).run()
    assert look_elsewhere(at).radio(key="ingest-place").value == upload
    at.radio(key="ingest-place").set_value(here).run()
    assert at.text_input(key="path-Corpus").value == "/data/notes"


def test_a_domain_that_was_taken_out_meanwhile_is_chosen_no_more(run_page, folder):
    at = run_page("ingest", folder)
    at.selectbox(key="ingest-domain").set_value("law").run()
    assert look_elsewhere(at).selectbox(key="ingest-domain").value == "law"
    with open_store(folder) as store:
        store.roll_back("law", out=True)
    at = look_elsewhere(at)
    assert not at.exception
    assert at.selectbox(key="ingest-domain").value == NEW


def test_a_link_to_a_domain_says_more_than_what_stood_there(run_page, folder):
    at = run_page("ingest", folder)
    at.selectbox(key="ingest-domain").set_value("law").run()
    at.query_params["job"] = "none"
    at.run()
    at.query_params.clear()
    at.query_params["domain"] = "medicine"
    assert at.run().selectbox(key="ingest-domain").value == "medicine"
