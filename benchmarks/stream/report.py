"""What the raw scores say: one table of methods, and its figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from benchmarks.efficiency import kept
from benchmarks.results import Figure, share_above_half, shown
from benchmarks.stream.raw import WORDINGS, BaseScores, Keyed, Piece, RawFolder, Scores, mean
from peer_cl import metrics
from peer_cl.mixture import worst_added_nats

OURS, FIRST = "peer", "peer-v1"
RIVALS = {
    "lora-mixture": "one LoRA r16 a domain",
    "lora-mixture-equal": "one LoRA r27 a domain",
}
"""Their answers are kept; which domain a question finds is our router's answer of today. Rank 27
has as many parameters as shared experts."""
BRANCHES = {OURS: "ours", FIRST: "ours, first version", **RIVALS}
"""Methods with one branch a domain, behind our mixture."""
METHODS = {
    **BRANCHES,
    "lora": "LoRA r16, sequential",
    "lora-replay": "LoRA r16, 10 % replay",
    "osf": "OSF",
    "full": "full finetuning",
    "sparse": "sparse memory finetuning, adapted",
    "rag": "RAG",
    "joint": "one LoRA, all domains at once",
}
"""The others have one state, which goes from one domain to the next; RAG's is an index."""
ORACLE, ROUTED = "oracle routing", "routed"
"""Ways to use branches."""
GENERAL_ITEMS = 250
"""Of each public set; rivals read no more of it."""


def figures(raw: RawFolder, seed: int = 0) -> list[Figure]:
    """Return every figure that the raw scores give."""
    base = raw.base()
    own = {"unseen loss (nats a token)": mean([base.loss(base.nats, n) for n in base.names])}
    for wording, share in _mean_recall(base, [base.right] * len(base.names)).items():
        own[f"recall, {wording} (share)"] = share
    found = [Figure(f"base: {name}", value) for name, value in own.items()]
    every = {method: raw.read(method) for method in METHODS}
    ours = every[OURS]["pieces"].get(f"s{seed}/asked")
    for method, scores in every.items():
        general = general_change(raw.read("base"), scores)
        for way in (ORACLE, ROUTED) if method in BRANCHES else ("",):
            found += _of_method(base, scores, way, seed, general, ours)
    found += _of_rag(base, every["rag"], seed)
    for method in BRANCHES:
        mixture = every[method]["pieces"].get(f"s{seed}/mixture")
        if mixture is not None:
            found += _of_mixture(base, mixture, method)
    if ours is not None:
        found += of_items(base, ours)
    if wordings := every[OURS]["pieces"].get(f"s{seed}/wordings"):
        routed = list(wordings["routed"].values())
        name = f"ours: recall, routed, all {len(routed):,} paraphrases (share)"
        found.append(Figure(name, mean(routed)))
    return found


def methods_table(figures: Sequence[Figure]) -> str:
    """Return the figures as a Markdown table with a row a method, the bare model's first."""
    rows: dict[str, dict[str, str]] = {}
    for figure in figures:
        method, _, name = figure.figure.partition(": ")
        if method == "base":
            name = _OF_BASE.get(name, name)
        if name in _COLUMNS:
            rows.setdefault(method, {})[name] = shown(figure.value)
    lines = ["| " + " | ".join(("method", *_COLUMNS.values())) + " |"]
    lines.append("|---" * (1 + len(_COLUMNS)) + "|")
    for method, cells in rows.items():
        lines.append("| " + " | ".join([method, *(cells.get(key, "") for key in _COLUMNS)]) + " |")
    return "\n".join([*lines, "", _NOTE, ""])


_NOTE = (
    "Made by `python -m benchmarks stream` from docs/results/raw/. The command runs ours alone: "
    "all other scores are those of commit 7c582c8 and are kept. A LoRA a domain is asked where our "
    "router of today finds its domain."
)
_COLUMNS = {
    "unseen loss after learning (nats a token)": "unseen loss after learning (nats a token)",
    "BWT (nats a token)": "BWT (nats a token)",
    "recall after learning, taught (share)": "recall after learning, taught",
    "recall after learning, paraphrase (share)": "paraphrases",
    "recall at the end, taught (share)": "recall at the end, taught",
    "recall at the end, paraphrase (share)": "paraphrases at the end",
    "loss added to background prose (nats a token)": "added to prose (nats a token)",
    "worst added loss of a background document (nats)": "worst background document (nats)",
    "general ability, change of accuracy (share)": "general ability (change of accuracy)",
    "trained parameters, first domain": "parameters, first domain",
    "trained parameters, last domain": "last domain",
}
_OF_BASE = {
    "unseen loss (nats a token)": "unseen loss after learning (nats a token)",
    "recall, taught (share)": "recall at the end, taught (share)",
    "recall, paraphrase (share)": "recall at the end, paraphrase (share)",
}


def _of_method(
    base: BaseScores,
    scores: Scores,
    way: str,
    seed: int,
    general: float | None,
    ours: Piece | None,
) -> Iterator[Figure]:
    """Yield a method's figures in one way of using it; none where a piece is missing."""
    is_joint = scores["method"] == "joint"
    names = ["0-all"] if is_joint else [f"{i}-{name}" for i, name in enumerate(base.names)]
    learned = [p for n in names if (p := scores["pieces"].get(f"s{seed}/{n}")) is not None]
    mixture = scores["pieces"].get(f"s{seed}/mixture") if way == ROUTED else None
    if len(learned) < len(names) or (way == ROUTED and mixture is None):
        return
    if scores["method"] == OURS and ours is None:
        return
    if is_joint:
        learned *= len(base.names)
    background: Keyed = learned[-1]["nats"]
    if mixture is not None:
        rows, background = mixture["rows"], mixture["foreign"]["routed"]
    elif way == ORACLE:
        rows = _oracle_rows(base, learned)
    else:
        rows = [base.nats, *(piece["nats"] for piece in learned)]
    matrix = [[-base.loss(row, name) for name in base.names] for row in rows]  # higher is better
    if scores["method"] == OURS and ours is not None:
        # No later domain takes an item from an earlier one but by a better score.
        after = end = [ours["recall"]["oracle" if way == ORACLE else "routed"]] * len(learned)
    elif scores["method"] in RIVALS and way == ROUTED:
        if ours is None:
            return
        after = end = [_where_found(piece["right"], ours) for piece in learned]
    else:
        after, end = _recalls(learned, mixture, way)
    transfers = {
        "BWT (nats a token)": metrics.backward_transfer(matrix),
        "FWT (nats a token)": metrics.forward_transfer(matrix),
        "forgetting (nats a token)": metrics.forgetting(matrix),
    }
    harm = {}
    if way in (ROUTED, ""):
        keys = [*base.keys("prose"), *base.keys("near-domain")]
        worst = max(background[key] - base.nats[key] for key in keys)
        harm = {
            "loss added to background prose (nats a token)": base.added(background, "prose"),
            "worst added loss of a background document (nats)": worst,
            "general ability, change of accuracy (share)": general,
        }
    recalls = {"after learning": _mean_recall(base, after), "at the end": _mean_recall(base, end)}
    named = {
        "unseen loss after learning (nats a token)": -metrics.learning_accuracy(matrix),
        "unseen loss at the end (nats a token)": -metrics.average_score(matrix),
        **({} if is_joint else transfers),
        **{
            f"recall {when}, {wording} (share)": share
            for when, shares in recalls.items()
            for wording, share in shares.items()
        },
        **harm,
        "trained parameters, first domain": learned[0]["num_parameters"],
        "trained parameters, last domain": learned[-1]["num_parameters"],
        # The median: a piece may have had to wait.
        "time to learn a domain, median (s)": round(median(one["seconds"] for one in learned)),
    }
    words = METHODS[scores["method"]] + (f", {way}" if way else "")
    for name, value in named.items():
        if value is not None:
            yield Figure(f"{words}: {name}", value)


def _oracle_rows(base: BaseScores, learned: Sequence[Piece]) -> list[Keyed]:
    """Return losses where each domain is read by its own branch once that is learned."""
    rows = [base.nats]
    for name, piece in zip(base.names, learned, strict=True):
        rows.append(rows[-1] | {key: piece["nats"][key] for key in base.texts[f"test/{name}"]})
    return rows


def _recalls(
    learned: Sequence[Piece], mixture: Piece | None, way: str
) -> tuple[list[Keyed], list[Keyed]]:
    """Return the answers about each domain, right after learning and at the end."""
    if mixture is None:
        after = [piece["right"] for piece in learned]
        return after, after if way == ORACLE else [after[-1]] * len(learned)
    # Mentions counted by default in the first version's last days.
    by_mentions = mixture.get("prompts_mention_odds", {}).values()
    recall = next(iter(by_mentions), mixture.get("prompts", {}))["recall"]
    num = len(learned)
    return [recall["routed_when_learned"]] * num, [recall["routed"]] * num


def _where_found(right: Keyed, ours: Piece) -> Keyed:
    """Return a rival's answers, where our router gives a question to its own domain."""
    found = ours["recall"]["own_domain"]
    return {key: value * found.get(key, 0) for key, value in right.items()}


def _mean_recall(base: BaseScores, right: Sequence[Keyed]) -> dict[str, float]:
    """Return recall by wording, mean over domains, of each domain's own answers."""
    pairs = list(zip(base.names, right, strict=True))
    return {w: mean([base.recall(one, name, w) for name, one in pairs]) for w in WORDINGS}


def general_change(base: Scores, scores: Scores) -> float | None:
    """Return the change of accuracy on public sets' first items, all with a verdict together."""
    gains = num = 0
    for task, after in scores.get("general_ability", {}).items():
        if "is_right" not in after:
            continue  # a text has no verdict
        earlier = base["general_ability"][task]
        before = dict(zip(earlier["keys"], earlier["is_right"], strict=True))
        first = list(zip(after["keys"], after["is_right"], strict=True))[:GENERAL_ITEMS]
        gains += sum(is_right - before[key] for key, is_right in first)
        num += len(first)
    return gains / num if num else None


def _of_rag(base: BaseScores, scores: Scores, seed: int) -> Iterator[Figure]:
    """Yield what retrieval finds, and what it is worth when it does not err."""
    passages, replies = (
        scores["pieces"].get(f"s{seed}/{name}") for name in ("right-passage", "replies")
    )
    if passages is None or replies is None:
        return
    found = {"RAG: right passage found": passages["found"]}
    given = "RAG, right passage given"
    found[f"{given}: recall at the end"] = passages["right"]
    for form, how in (("examples", "after three examples"), ("chat", "in the chat template")):
        for which, words in (("found", "RAG"), ("right", given)):
            name = f"{words}, asked {how}, answer anywhere in its reply: recall at the end"
            found[name] = replies[form][which]
    for name, right in found.items():
        for wording, share in _mean_recall(base, [right] * len(base.names)).items():
            yield Figure(f"{name}, {wording} (share)", share)


def _of_mixture(base: BaseScores, mixture: Piece, method: str) -> Iterator[Figure]:
    """Yield how branches are routed; goals are ours."""

    def figure(name: str, value: float, **goal: float) -> Figure:
        return Figure(f"{BRANCHES[method]}: {name}", value, **(goal if method == OURS else {}))

    for part, said, goal in (
        ("whole", "documents of 128 tokens", 0.94),
        ("after_32", "the same after 32 tokens", 0.96),
    ):
        shares = []
        for name in base.names:
            keys = base.texts[f"blocks128/{name}"]
            losses = {column: [own[key] for key in keys] for column, own in mixture[part].items()}
            shares.append(kept(losses))
        yield figure(f"routing efficiency, {said}, mean (share)", mean(shares), least=goal)
        for name, share in zip(base.names, shares, strict=True):
            yield figure(f"routing efficiency, {said}, {name} (share)", share, least=goal)
    found = list(mixture["after_32"]["own_active"].values())
    yield figure("own domain found after 32 tokens (share)", mean(found))
    bound = worst_added_nats(mixture["budget"])
    routed, num_active = mixture["foreign"]["routed"], mixture["foreign"]["num_active"]
    for group, keys in base.texts.items():
        if group.startswith(("prose/", "near-domain/")):
            worst = max(routed[key] - base.nats[key] for key in keys)
            yield figure(f"worst added loss of a document, {group} (nats)", worst, most=bound)
            inactive = mean([float(num_active[key] == 0) for key in keys])
            goal = 0.99 if group.startswith("prose") else 0.90
            yield figure(f"nothing found, {group} (share)", inactive, least=goal)


def of_items(base: BaseScores, prompts: Piece) -> Iterator[Figure]:
    """Yield what prompts find and what is answered; goals are the least that is wanted."""
    recall = prompts["recall"]
    for column, words, goals in (
        ("routed", "recall, routed", {"taught": 0.95, "paraphrase": 0.70}),
        ("lookup", "recall by printing the found fact's stored answer", {}),
        ("item_found", "questions that find an item", {}),
        ("right_item", "right item first, threshold off", {"taught": 0.95, "paraphrase": 0.95}),
    ):
        for wording, share in _mean_recall(base, [recall[column]] * len(base.names)).items():
            yield Figure(f"ours: {words}, {wording} (share)", share, least=goals.get(wording))
    for name in base.names:
        share = base.recall(recall["routed"], name, "paraphrase")
        yield Figure(f"ours: recall, routed, paraphrase, {name} (share)", share)
    for kind, words in (
        ("naming", "sentences that only name its subject"),
        ("another", "another fact's question"),
        ("general", "general prompts"),
    ):
        given, routed = zip(*prompts["said"][kind], strict=True)
        said = f"an answer is begun after {words}"
        yield Figure(f"ours: {said}, nearest item given (share)", mean(given))
        yield Figure(f"ours: {said}, routed (share)", mean(routed), most=0.20)
    for key, words, most in (
        ("naming", "sentences that only name a subject", 0.25),
        ("general", "general prompts", 0.02),
    ):
        share = share_above_half(prompts[key].values())
        yield Figure(f"ours: {words}, an item or domain found (share)", share, most=most)
