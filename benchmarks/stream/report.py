"""What the raw scores say: one table of methods, and its figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.results import Figure, at_least, at_most, reported, shown
from benchmarks.stream.raw import BaseScores, Keyed, MethodScores, Piece, RawFolder, mean
from peer_cl import metrics
from peer_cl.metrics import efficiency
from peer_cl.mixture import worst_added_nats

COMMAND = "python -m benchmarks stream"
OURS = "peer"
CHAINS = {
    "lora": "LoRA r16, sequential",
    "lora-replay": "LoRA r16, 10 % replay",
    "osf": "OSF",
    "full": "full finetuning",
    "sparse": "sparse memory finetuning, adapted",
    "rag": "RAG",
}
"""Methods with one state, which goes from one domain to the next; RAG's is an index."""
BRANCHES = {
    OURS: "ours",
    "peer-v1": "ours, first version",
    "lora-mixture": "one LoRA r16 a domain",
    "lora-mixture-equal": "one LoRA r27 a domain",
}
"""Methods with one branch a domain, behind our mixture; r27 has as many parameters as a pool."""
JOINT = {"joint": "one LoRA, all domains at once"}
ORACLE, ROUTED, MENTIONS = "oracle routing", "routed", "routed, mentions count"
"""Ways to use branches; with mentions, a domain whose documents a prompt names has odds of one."""
METHODS = {**BRANCHES, **CHAINS, **JOINT}
COMMITTED_ONLY = ("peer-v1", "sparse", "rag", "joint")
"""Measured at 7c582c8 and not run here: PEFT has neither sparse memory nor retrieval, and joint
training would learn all domains anew for each new one."""
WORDINGS = ("taught", "paraphrase")
GENERAL_ITEMS = 250
"""Of each public set; rivals read no more of it."""

Matrix = list[list[float]]


@dataclass(frozen=True)
class Line:
    """One method's row of the table; None where it was not measured."""

    words: str
    losses: Matrix
    """Losses on unseen documents, nats a token: row 0 the base's, row i after i domains."""
    recall_after: dict[str, float]
    """By wording, right after each domain was learned, mean over domains."""
    recall_end: dict[str, float]
    added_to_prose: float | None
    worst_added: float | None
    general_change: float | None
    num_parameters: tuple[int, int]
    seconds: float

    @property
    def scores(self) -> Matrix:
        """R with higher as better."""
        return [[-loss for loss in row] for row in self.losses]


def lines(raw: RawFolder, seed: int = 0) -> list[Line]:
    """Return a row for every method and way whose pieces are all there."""
    base = raw.base()
    found = []
    for method in METHODS:
        scores = raw.read(method)
        general = general_change(raw.read("base"), scores)
        for way in (ORACLE, ROUTED, MENTIONS) if method in BRANCHES else ("",):
            line = _line(base, scores, way, seed, general)
            if line is not None:
                found.append(line)
    return found


def figures(raw: RawFolder, seed: int = 0) -> list[Figure]:
    """Return every figure that the raw scores give."""
    base = raw.base()
    found = [
        reported(
            "base: unseen loss (nats a token)",
            mean([base.loss(base.nats, name) for name in base.names]),
            COMMAND,
        )
    ]
    for wording in WORDINGS:
        value = mean([base.recall(base.right, name, wording) for name in base.names])
        found.append(reported(f"base: recall, {wording} (share)", value, COMMAND))
    for line in lines(raw, seed):
        found += _of_line(line)
    found += _of_rag(base, raw.read("rag"), seed)
    for method, words in BRANCHES.items():
        mixture = raw.read(method).pieces.get(f"s{seed}/mixture")
        if mixture is not None:
            found += _of_mixture(base, mixture, words, has_goals=method == OURS)
    return found


def methods_table(figures: Sequence[Figure]) -> str:
    """Return the figures as a Markdown table with a row a method, the bare model's first."""
    rows: dict[str, dict[str, str]] = {}
    for figure in figures:
        method, _, rest = figure.figure.partition(": ")
        if rest in _COLUMNS:
            rows.setdefault(method, {})[rest] = shown(figure.value)
        elif method == "base" and rest in _OF_BASE:
            rows.setdefault(method, {})[_OF_BASE[rest]] = shown(figure.value)
    lines = ["| " + " | ".join(("method", *_COLUMNS.values())) + " |"]
    lines.append("|---" * (1 + len(_COLUMNS)) + "|")
    for method, cells in rows.items():
        lines.append("| " + " | ".join([method, *(cells.get(key, "") for key in _COLUMNS)]) + " |")
    return "\n".join([*lines, "", _NOTE, ""])


_NOTE = (
    "Made by `python -m benchmarks stream` from docs/results/raw/. The first version's, sparse "
    "memory's, RAG's and joint training's scores are those of commit 7c582c8: the command runs "
    "ours and PEFT's methods alone."
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


def _line(
    base: BaseScores, scores: MethodScores, way: str, seed: int, general: float | None
) -> Line | None:
    is_joint = scores.method in JOINT
    names = ["0-all"] if is_joint else [f"{i}-{name}" for i, name in enumerate(base.names)]
    pieces = [scores.pieces.get(f"s{seed}/{name}") for name in names]
    learned = [piece for piece in pieces if piece is not None]
    mixture = scores.pieces.get(f"s{seed}/mixture")
    if len(learned) < len(pieces) or (way in (ROUTED, MENTIONS) and mixture is None):
        return None
    first = {key: base.nats[key] for key in base.keys("test")}
    if is_joint:
        rows, learned = [first, *[learned[0]["nats"]] * len(base.names)], learned * len(base.names)
    elif way == "":
        rows = [first, *(piece["nats"] for piece in learned)]
    elif way == ORACLE or mixture is None:
        rows = _oracle_rows(base, first, learned)
    else:
        rows = mixture["rows"]
    background = None if way == ORACLE else _background(learned[-1], mixture)
    after, end = _recalls(base, learned, mixture, way)
    has_losses = way != MENTIONS  # text is scored as without mentions
    return Line(
        words=METHODS[scores.method] + (f", {way}" if way else ""),
        losses=[[base.loss(row, name) for name in base.names] for row in rows],
        recall_after=after,
        recall_end=end,
        added_to_prose=base.added(background, "prose") if background and has_losses else None,
        worst_added=_worst(base, background) if background and has_losses else None,
        general_change=None if way in (ORACLE, MENTIONS) else general,
        num_parameters=(learned[0]["num_parameters"], learned[-1]["num_parameters"]),
        seconds=median(piece["seconds"] for piece in learned),  # a piece may have had to wait
    )


def _oracle_rows(base: BaseScores, first: Keyed, learned: Sequence[Piece]) -> list[Keyed]:
    """Return R's rows where each domain is read by its own branch once that is learned."""
    rows, row = [first], dict(first)
    for name, piece in zip(base.names, learned, strict=True):
        row = row | {key: piece["nats"][key] for key in base.texts[f"test/{name}"]}
        rows.append(row)
    return rows


def _background(last: Piece, mixture: Piece | None) -> Keyed:
    found: Keyed = last["nats"] if mixture is None else mixture["foreign"]["routed"]
    return found


def _worst(base: BaseScores, nats: Keyed) -> float:
    keys = [*base.keys("prose"), *base.keys("near-domain")]
    return max(nats[key] - base.nats[key] for key in keys)


def _recalls(
    base: BaseScores, learned: Sequence[Piece], mixture: Piece | None, way: str
) -> tuple[dict[str, float], dict[str, float]]:
    """Return recall by wording, right after learning and at the end."""
    if way in (ROUTED, MENTIONS) and mixture is not None:
        prompts = mixture["prompts"]
        if way == MENTIONS:
            prompts = next(iter(mixture["prompts_mention_odds"].values()))
        after = [prompts["recall"]["routed_when_learned"]] * len(base.names)
        end = [prompts["recall"]["routed"]] * len(base.names)
    else:
        after = [piece["right"] for piece in learned]
        end = after if way == ORACLE else [learned[-1]["right"]] * len(base.names)
    return _mean_recall(base, after), _mean_recall(base, end)


def _mean_recall(base: BaseScores, right: Sequence[Mapping[str, int]]) -> dict[str, float]:
    """Return recall by wording, mean over domains, of each domain's own answers."""
    pairs = list(zip(base.names, right, strict=True))
    return {w: mean([base.recall(one, name, w) for name, one in pairs]) for w in WORDINGS}


def general_change(base: MethodScores, scores: MethodScores) -> float | None:
    """Return the change of accuracy on public sets' first items, all with a verdict together."""
    gains = num = 0
    for task, after in scores.others.get("general_ability", {}).items():
        if "is_right" not in after:
            continue  # a text has no verdict
        earlier = base.others["general_ability"][task]
        before = dict(zip(earlier["keys"], earlier["is_right"], strict=True))
        first = list(zip(after["keys"], after["is_right"], strict=True))[:GENERAL_ITEMS]
        gains += sum(is_right - before[key] for key, is_right in first)
        num += len(first)
    return gains / num if num else None


def _of_line(line: Line) -> Iterator[Figure]:
    named: dict[str, float | None] = {
        "unseen loss after learning (nats a token)": -metrics.learning_accuracy(line.scores),
        "unseen loss at the end (nats a token)": -metrics.average_score(line.scores),
        "BWT (nats a token)": metrics.backward_transfer(line.scores),
        "FWT (nats a token)": metrics.forward_transfer(line.scores),
        "forgetting (nats a token)": metrics.forgetting(line.scores),
        **{f"recall after learning, {w} (share)": line.recall_after[w] for w in WORDINGS},
        **{f"recall at the end, {w} (share)": line.recall_end[w] for w in WORDINGS},
        "loss added to background prose (nats a token)": line.added_to_prose,
        "worst added loss of a background document (nats)": line.worst_added,
        "general ability, change of accuracy (share)": line.general_change,
        "trained parameters, first domain": line.num_parameters[0],
        "trained parameters, last domain": line.num_parameters[1],
        "time to learn a domain, median (s)": round(line.seconds),
    }
    is_joint = line.words in JOINT.values()
    for name, value in named.items():
        if value is not None and not (is_joint and name.startswith(("BWT", "FWT", "forgetting"))):
            yield reported(f"{line.words}: {name}", value, COMMAND)


def _of_rag(base: BaseScores, scores: MethodScores, seed: int) -> Iterator[Figure]:
    """Yield what retrieval finds, and what it is worth when it does not err."""
    passages, replies = (
        scores.pieces.get(f"s{seed}/{name}") for name in ("right-passage", "replies")
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
            yield reported(f"{name}, {wording} (share)", share, COMMAND)


def _of_mixture(
    base: BaseScores, mixture: Piece, words: str, *, has_goals: bool
) -> Iterator[Figure]:
    """Yield how branches are routed; goals are ours."""

    def figure(
        name: str, value: float, least: float | None = None, most: float | None = None
    ) -> Figure:
        full = f"{words}: {name}"
        if has_goals and least is not None:
            return at_least(full, value, least, COMMAND)
        if has_goals and most is not None:
            return at_most(full, value, most, COMMAND)
        return reported(full, value, COMMAND)

    for part, said, goal in (
        ("whole", "documents of 128 tokens", 0.94),
        ("after_32", "the same after 32 tokens", 0.96),
    ):
        shares = [_efficiency(mixture[part], base.texts[f"blocks128/{n}"]) for n in base.names]
        yield figure(f"routing efficiency, {said}, mean (share)", mean(shares), least=goal)
        for name, share in zip(base.names, shares, strict=True):
            yield figure(f"routing efficiency, {said}, {name} (share)", share, least=goal)
    found = list(mixture["after_32"]["own_active"].values())
    yield figure("own domain found after 32 tokens (share)", mean(found))
    ways = {"": mixture["prompts"]}
    ways |= {f", mention odds {o}": p for o, p in mixture["prompts_mention_odds"].items()}
    for how, prompts in ways.items():
        recall = prompts["recall"]
        heavy = mean([float(weight > 0.5) for weight in recall["own_posterior"].values()])
        name = f"questions whose own domain has a posterior above 0.5{how} (share)"
        yield figure(name, heavy, least=0.95)
        for wording, goal in (("taught", 0.95), ("paraphrase", 0.85)):
            value = mean([base.recall(recall["routed"], name, wording) for name in base.names])
            yield figure(f"recall, routed, {wording}{how} (share)", value, least=goal)
        for kind, goals in (("general", {"most": 0.01}), ("naming", {})):
            what = "general prompts" if kind == "general" else "sentences that only name a subject"
            heavy = mean([float(weight > 0.5) for weight in prompts[kind].values()])
            yield figure(f"{what}, any posterior above 0.5{how} (share)", heavy, **goals)
    bound = worst_added_nats(mixture["budget"])
    routed, num_active = mixture["foreign"]["routed"], mixture["foreign"]["num_active"]
    for group, keys in base.texts.items():
        if not group.startswith(("prose/", "near-domain/")):
            continue
        worst = max(routed[key] - base.nats[key] for key in keys)
        yield figure(f"worst added loss of a document, {group} (nats)", worst, most=bound)
        silent = mean([float(num_active[key] == 0) for key in keys])
        goal = 0.99 if group.startswith("prose") else 0.90
        yield figure(f"nothing found, {group} (share)", silent, least=goal)


def _efficiency(found: Mapping[str, Keyed], keys: Sequence[str]) -> float:
    nats = [sum(found[column][key] for key in keys) for column in ("base", "oracle", "routed")]
    return efficiency(*nats) or 0.0
