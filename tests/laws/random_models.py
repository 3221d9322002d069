"""Small random models as the tables of a model file, for the laws that hold for every model."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

SHAPE = (6, 4, 8)  # x, y, z; four devices or fewer share it, by any axis

# Each number is written in two ways that mean the same.
RATES = [("0.5 /h", "12 /day"), ("0.01 /min", "0.6 /h"), ("1.25 /h", "30 /day")]
TIMES = [("2 h", "120 min"), ("30 min", "0.5 h"), ("1 day", "24 h")]
DIFFUSIONS = [("3 um^2/s", "0.0108 mm^2/h"), ("20 um^2/s", "72000 um^2/h")]
AMOUNTS = [("4 fg/day", "4e-3 pg/day"), ("20 fg/day", "0.02 pg/day")]
SPEEDS = [("0.2 um/min", "12 um/h"), ("5 um/h", "120 um/day")]
LEVELS = [("0.1 ng/mL", "0.1 ug/L"), ("3 ng/mL", "3 ug/L")]
CLEARANCES = [("300 um^3/h", "7200 um^3/day")]

SILENT = [
    '[[cytokine]]\nname = "an_unused_one"\ndiffusion = "9 um^2/s"\nhalf_life = "1 h"\n',
    '[[state]]\nname = "nobody"\n',
    '[[rule]]\nname = "absent"\nfrom = "a"\nto = "empty"\nrate = "0 /h"\n',
    '[[rule]]\nname = "mute"\nfrom = ["b", "a"]\nto = ["empty", "empty"]\nrate = "0 /h"\n',
    '[[intervention]]\nname = "a_first_pulse"\nevery = "1 h"\n'
    'kill = { states = ["a", "b"], fraction = 0.0, into = "empty" }\n',
]
"""Tables that do nothing, whatever stands beside them."""


@dataclass(frozen=True)
class RandomModel:
    """A model file in pieces: its head, and tables whose order means nothing. Each number in them
    is a pair of spellings, ``<one|other>``."""

    head: str
    tables: tuple[str, ...]

    def text(self, spelling: int = 0, *, added: tuple[str, ...] = (), backwards: bool = False):
        """The model file, with one of the spellings, tables added at the end, or in reverse."""
        tables = [*self.tables, *added]
        text = self.head + "".join(reversed(tables) if backwards else tables)
        parts = text.replace(">", "<").split("<")
        pairs = (pair.split("|")[spelling] for pair in parts[1::2])
        return "".join(a + b for a, b in zip(parts[::2], [*pairs, ""], strict=True))


def number(draw, choices: list[tuple[str, str]]) -> str:
    """One of the numbers, in both spellings."""
    one, other = draw(st.sampled_from(choices))
    return f'"<{one}|{other}>"'


def response(draw, cytokines: list[str]) -> str:
    """A response to a cytokine, or to neighbours, or none."""
    signal = draw(st.sampled_from([None, "neighbours.a", *cytokines]))
    if signal is None:
        return ""
    half = number(draw, LEVELS) if signal in cytokines else "1"
    effect = draw(st.sampled_from(["increases", "decreases"]))
    return f'when = [{{ signal = "{signal}", effect = "{effect}", half = {half}, floor = 0.2 }}]\n'


def cytokine_table(draw, name: str) -> str:
    """A cytokine that diffuses; slower in bone or not."""
    inside = draw(st.sampled_from(["1.0", "0.05"]))
    return (
        f'[[cytokine]]\nname = "{name}"\ndiffusion = {number(draw, DIFFUSIONS)}\n'
        f"half_life = {number(draw, TIMES)}\nin_bone = {inside}\n"
    )


def state_table(draw, name: str, cytokines: list[str]) -> str:
    """A state of marrow that secretes or takes up a cytokine, or none."""
    text = f'[[state]]\nname = "{name}"\nseeding = {{ where = "marrow", fraction = 0.25 }}\n'
    if cytokines and draw(st.booleans()):
        text += f"secretes = {{ {draw(st.sampled_from(cytokines))} = {number(draw, AMOUNTS)} }}\n"
    if cytokines and draw(st.booleans()):
        taken = draw(st.sampled_from(cytokines))
        text += f"takes_up = {{ {taken} = {number(draw, CLEARANCES)} }}\n"
    return text


def rule_table(draw, kind: str, name: str, cytokines: list[str]) -> str:
    """A rule of a kind: site, pair, move or divide."""
    head = f'[[rule]]\nname = "{name}"\n'
    rate = f"rate = {number(draw, RATES)}\n"
    one, other = draw(st.permutations(["a", "b"]))
    if kind == "move":
        return f'{head}move = "{one}"\nspeed = {number(draw, SPEEDS)}\n'
    if kind == "divide":
        return f'{head}divide = "{one}"\n{rate}{response(draw, cytokines)}'
    if kind == "pair":
        into = draw(st.sampled_from([other, "empty"]))
        return f'{head}from = ["{one}", "{other}"]\nto = ["{into}", "{other}"]\n{rate}'
    into = draw(st.sampled_from([other, "empty"]))
    return f'{head}from = "{one}"\nto = "{into}"\n{rate}{response(draw, cytokines)}'


def matrix_tables(draw) -> list[str]:
    """Bone that is built and resorbed."""
    surface = draw(st.sampled_from(["uniform", "thresholded", "none"]))
    return [
        f'[matrix]\nlag = {number(draw, TIMES)}\ninitial_surface = "{surface}"\n',
        '[[state]]\nname = "builder"\nlives = "surface"\nwhen_stranded = "a"\n'
        f"lays = {number(draw, RATES)}\nwhen_filled = {{ builder = 0.5, buried = 0.5 }}\n"
        'seeding = { where = "surface", fraction = 0.25 }\n',
        '[[state]]\nname = "buried"\nlives = "bone"\n',
        '[[state]]\nname = "digger"\nlives = "surface"\nwhen_stranded = "empty"\n'
        f'resorbs = {number(draw, RATES)}\nseeding = {{ where = "surface", fraction = 0.15 }}\n',
    ]


def intervention_table(draw, kind: str, cytokines: list[str]) -> str:
    """A pulse that kills, a window that scales a rule, or a source."""
    head = f'[[intervention]]\nname = "{kind}"\n'
    if kind == "kill":
        what = 'kill = { states = ["b"], fraction = 0.3, into = "empty" }\n'
        return f'{head}{what}every = "<2 h|120 min>"\n'
    window = 'from = "<1 h|60 min>"\nuntil = "<3 h|180 min>"\n'
    if kind == "window":
        return f"{head}factor = {{ first = 0.5 }}\n{window}"
    given = f'{{ cytokine = "{cytokines[0]}", rate = "0.5 ng/mL/h", where = "marrow" }}'
    return f"{head}source = {given}\n{window}"


@st.composite
def models(draw) -> RandomModel:
    """Two states of marrow, and by chance cytokines, matrix, rules of all kinds, interventions."""
    cytokines = draw(st.sampled_from([["x"], ["x", "y"], []]))
    tables = [cytokine_table(draw, name) for name in cytokines]
    tables += [state_table(draw, name, cytokines) for name in ("a", "b")]
    kinds = draw(st.lists(st.sampled_from(["site", "pair", "move", "divide"]), min_size=1))
    names = ["first", "second", "third", "fourth"]
    for kind, name in zip(["pair", *kinds], names, strict=False):
        tables.append(rule_table(draw, kind, name, cytokines))
    if draw(st.booleans()):
        tables += matrix_tables(draw)
    possible = ["kill", "window", *(["source"] if cytokines else [])]
    for kind in draw(st.sets(st.sampled_from(possible))):
        tables.append(intervention_table(draw, kind, cytokines))
    ends = draw(st.lists(st.sampled_from(["no-flux", "periodic"]), min_size=3, max_size=3))
    head = (
        f'schema = 1\n[lattice]\nshape = {list(SHAPE)}\nvoxel = "10 um"\nboundary = {ends}\n'
        '[time]\nstep = "<30 min|0.5 h>"\nuntil = "1 day"\n'
        '[geometry]\nkind = "plate"\nthickness = "20 um"\naxis = "z"\n'
    ).replace("'", '"')
    return RandomModel(head, tuple(tables))
