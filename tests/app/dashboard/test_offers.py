"""What pages offer can be done: starting a job again, and bringing a domain back."""

import pytest
from pages import everything, is_sound

from pipelines import open_store
from stores import NewJob, Registry


def test_a_cancelled_job_whose_upload_is_gone_is_not_offered_again(run_page, folder):
    upload = {"upload": f"upload-{'a' * 64}.txt", "name": "notes.txt"}
    with Registry.open(folder) as registry:
        request = {"corpus": upload, "facts": None, "background": True}
        new = NewJob(kind="ingest", domain="law", request=request, who="bob")
        job = registry.jobs.end(registry.jobs.add(new).id, "cancelled")
    at = run_page("ingest", folder, job=job.id)
    assert is_sound(at)
    assert "Start it again" not in [button.label for button in at.button]
    assert "notes.txt is not kept any more; upload it again" in everything(at).replace("\\", "")


@pytest.mark.parametrize("page", ["ingest", "trace"])
def test_where_all_is_taken_out_it_says_that_it_can_be_brought_back(run_page, folder, page):
    def told():
        at = run_page(page, folder)
        assert is_sound(at)
        return at.info[0].value

    with open_store(folder) as store:
        names = [one.domain for one in store.registry.live().domains]
        for name in names:
            store.roll_back(name, out=True)
        assert "No domain is live" in told()
        assert "on the Domains page" in told()
        for name in names:
            store.purge(name)
    assert ("knows nothing yet" if page == "ingest" else "Nothing is learned yet") in told()
