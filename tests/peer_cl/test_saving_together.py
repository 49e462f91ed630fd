"""Two that save into one folder at once leave one of the two models, whole."""

import threading

from tiny import make_base

from peer_cl import PeerModel, saving


def test_a_save_waits_for_another_into_the_same_folder(make_model, tmp_path, monkeypatch):
    """What the first wrote is named by no settings yet when the second looks for leftovers."""
    first, second = make_model("llama"), make_model("llama")
    second.delete_pool("b")  # so the first's file of it is none of the second's
    folder, ordinary = tmp_path / "m", saving.computed
    other = threading.Thread(target=second.save_pretrained, args=(folder,))

    def between(attachment):
        if attachment is first.attachment:
            other.start()
            other.join(timeout=1)  # ample for a save that does not wait
        return ordinary(attachment)

    monkeypatch.setattr(saving, "computed", between)
    first.save_pretrained(folder)
    other.join()
    found = PeerModel.from_pretrained(folder, make_base("llama"))
    assert found.get_model_status() == second.get_model_status()


def test_a_load_begins_anew_where_a_save_removed_what_it_was_to_read(
    make_model, tmp_path, monkeypatch
):
    first, second = make_model("llama"), make_model("llama")
    second.delete_pool("b")
    folder, ordinary, is_done = tmp_path / "m", saving.identify, []
    first.save_pretrained(folder)

    def beside_a_save(*about):
        if not is_done:
            is_done.append(True)
            second.save_pretrained(folder)
        return ordinary(*about)

    monkeypatch.setattr(saving, "identify", beside_a_save)
    found = PeerModel.from_pretrained(folder, make_base("llama"))
    assert found.get_model_status() == second.get_model_status() != first.get_model_status()
