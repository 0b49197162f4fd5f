"""The tree of branches: what epochs and commands make of it."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import caviar as cv
from caviar.errors import StudyError
from caviar.panda import events
from caviar.panda.commands import COMMANDS, completions, heard, say, split_commands
from caviar.panda.session import START, End, Place, Session, Trained
from caviar.trial import Outcome
from tests.panda.sessions import STUDY, function_study, new_session, say_all, train

EPOCHS = 12


def test_epochs_with_the_same_params_make_one_branch() -> None:
    session = train(new_session(), 0.9, 0.8, 0.7)
    assert [branch.last for branch in session.branches] == [3]
    assert session.at == Place(0, 3)
    assert session.branches[0].start == START


def test_a_change_begins_a_branch_with_the_next_epoch() -> None:
    session = train(new_session(), 0.9, 0.8)
    changed = say_all(session, "learning_rate 0.5", "l2 0.01")
    assert len(changed.branches) == 1, "no epoch is trained with it yet"
    grown = train(changed, 0.7, 0.6)
    assert [(b.start, b.last) for b in grown.branches] == [(START, 2), (Place(0, 2), 4)]
    assert grown.branches[1].params["learning_rate"] == 0.5
    assert grown.branches[1].params["l2"] == 0.01
    assert [m.epoch for m in grown.curve()] == [1, 2, 3, 4]


def test_a_change_that_is_taken_back_makes_no_branch() -> None:
    session = train(new_session(), 0.9)
    rate = session.params["learning_rate"]
    session = train(say_all(session, "learning_rate 0.5", f"learning_rate {rate}"), 0.8)
    assert len(session.branches) == 1


def test_going_on_from_an_earlier_epoch_branches() -> None:
    session = say(train(new_session(), 0.9, 0.8, 0.7, 0.6), "back 2")
    assert session.at == Place(0, 2)
    assert not session.is_running
    session = train(say(session, "go"), 0.5)
    assert session.branches[1].start == Place(0, 2)
    assert [round(m.metrics["dev_loss"], 1) for m in session.curve()] == [0.9, 0.8, 0.5]
    assert session.branches[0].last == 4, "the branch that was left keeps its epochs"


def test_back_reaches_ancestors_and_restores_their_params() -> None:
    session = train(new_session(), 0.9, 0.8, 0.7)
    rate = session.params["learning_rate"]
    session = train(say(session, "learning_rate 0.5"), 0.6, 0.5)
    assert say(session, "back 3").at == Place(0, 3)
    back = say(session, "back 1")
    assert back.at == Place(0, 1)
    assert back.params["learning_rate"] == rate
    assert say(session, "back 0").at == START


def test_back_to_the_best_epoch_of_the_path() -> None:
    session = train(new_session(), 0.9, 0.3, 0.7)
    assert say(session, "back best").at == Place(0, 2)
    with pytest.raises(StudyError, match="no epoch"):
        say(new_session(), "back best")


def test_a_branch_that_diverges_at_once_has_no_best_epoch() -> None:
    session = train(new_session(), 0.9, outcome=Outcome.DIVERGED)
    assert session.best() is None
    assert session.stuck is not None
    assert "`back 0`" in session.stuck
    with pytest.raises(StudyError, match="back 0"):
        say(session, "back best")
    assert say(session, "back 0").stuck is None


def test_a_diverged_branch_is_left_by_stepping_back() -> None:
    session = train(new_session(), 0.9, math.nan, outcome=Outcome.DIVERGED)
    assert session.branches[0].outcome is Outcome.DIVERGED
    assert not session.is_running
    with pytest.raises(StudyError, match="back best"):
        say(session, "go")
    session = train(say_all(session, "back best", "learning_rate /10", "go"), 0.8)
    assert session.branches[1].start == Place(0, 1)


def test_the_last_epoch_pauses_and_may_be_moved() -> None:
    session = train(new_session(epochs=2), 0.9, 0.8)
    assert not session.is_running
    with pytest.raises(StudyError, match="epochs 4"):
        say(session, "go")
    session = train(say_all(session, "epochs 3", "go"), 0.7)
    assert [branch.epochs for branch in session.branches] == [2, 3]


def test_go_for_some_epochs_pauses_after_them() -> None:
    session = train(say_all(new_session(), "pause", "go 2"), 0.9)
    assert session.is_running
    assert not train(session, 0.8).is_running


def test_branches_are_selected_and_compared() -> None:
    session = train(say(train(new_session(), 0.9, 0.8), "l2 0.1"), 0.7, 0.6)
    selected = say(session, "branch 0")
    assert selected.at == Place(0, 2)
    assert selected.params["l2"] == 0
    compared = say(selected, "compare 1")
    assert compared.compared == 1
    assert "l2 0 -> 0.1" in compared.answer
    assert say(compared, "compare").compared is None
    assert say(session, "branch").answer.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("lern 3", "lern"),
        ("learning_rat 3", "learning_rate"),
        ("learning_rate", "one value"),
        ("learning_rate fast", "number"),
        ("learning_rate -1", "above 0"),
        ("learning_rate 1e7", "1,000,000"),
        ("momentum 1", "below 1"),
        ("dropout 1", "0.99"),
        ("batch_size 3.5", "whole number"),
        ("decay sideways", "cosine"),
        ("decay_rate 2", "inverse"),
        ("units 9", "cannot change"),
        ("optimizer adam", "cannot change"),
        ("back 9", "from 0 to 2"),
        ("back", "back EPOCH"),
        ("branch 4", "from 0 to 0"),
        ("compare x", "from 0 to 0"),
        ("epochs 1", "from 2"),
        ("pace -1", "pace"),
        ("plot speed", "dev_loss"),
        ("note", "note TEXT"),
        ("finish now", "finish"),
        ("go 0", "from 1"),
    ],
)
def test_wrong_commands_say_what_is_right_and_change_nothing(line: str, hint: str) -> None:
    session = train(new_session(), 0.9, 0.8)
    after = heard(session, line)
    assert after == session
    assert after.is_refusal
    assert hint in after.answer


def test_what_a_choice_activates_becomes_changeable() -> None:
    session = say(train(new_session(), 0.9), "decay inverse")
    assert session.params["decay_rate"] == 0.1
    assert say(session, "decay_rate 2").params["decay_rate"] == 2
    assert "decay_rate" not in say(session, "decay constant").params


def test_values_may_be_factors_and_equations() -> None:
    session = new_session()
    rate = float(session.params["learning_rate"])  # type: ignore[arg-type]
    assert say(session, "learning_rate /4").params["learning_rate"] == rate / 4
    assert say(session, "learning_rate=*2").params["learning_rate"] == rate * 2
    assert say(session, "batch_size = 16").params["batch_size"] == 16


def test_params_of_a_function_change_within_their_scale() -> None:
    session = new_session(function_study())
    assert say(session, "learning_rate 5").params == {"learning_rate": 5.0}
    with pytest.raises(StudyError, match="above 0"):
        say(session, "learning_rate 0")


def test_a_change_without_effect_is_told() -> None:
    session = say(train(new_session(), 0.9, 0.8, 0.7), "back 1")
    assert "restore" in train(say_all(session, "l2 0.1", "go"), 0.8).answer
    assert train(say_all(session, "l2 0.1", "go"), 0.75).answer == ""
    assert train(say(session, "go"), 0.8).answer == "", "nothing was changed"


def test_notes_have_their_place() -> None:
    session = say(train(new_session(), 0.9), "note slow; but steady", time=7.0)
    assert [(n.time, n.place, n.text) for n in session.notes] == [(7.0, Place(0, 1), "slow; but steady")]


def test_finish_needs_a_network() -> None:
    with pytest.raises(StudyError, match="nothing to hand over"):
        say(new_session(), "finish")
    assert say(train(new_session(), 0.9), "finish").end is End.FINISH


def test_completions_are_commands_values_and_branches() -> None:
    session = train(say(train(new_session(), 0.9), "l2 0.1"), 0.8)
    assert completions(session, "le") == ["learning_rate"]
    assert completions(session, "decay c") == ["decay constant", "decay cosine"]
    assert completions(session, "compare ") == ["compare 1", "compare 0"]
    assert completions(session, "") == []


def test_help_explains_every_command() -> None:
    session = new_session()
    lines = say(session, "help").answer
    for command in COMMANDS.values():
        assert command.usage in lines
    assert max(map(len, lines.splitlines())) <= 79
    assert "0 .. 0.99" in say(session, "help dropout").answer


def test_lines_split_into_commands() -> None:
    assert split_commands(" back 4;; l2 0.1 ; note a; b") == ["back 4", "l2 0.1", "note a; b"]


LINES = st.one_of(
    st.sampled_from(
        ["learning_rate *2", "l2 0.1", "decay cosine", "back best", "pause", "go", "go 2", "branch 0"]
    ),
    st.sampled_from(["compare 0", "epochs 20", "note well", "quit", "nonsense", "momentum 0.7", "branch 1"]),
    st.integers(0, EPOCHS).map(lambda epoch: f"back {epoch}"),
)


def check(session: Session) -> None:
    """Assert what holds in every state."""
    for branch in session.branches:
        assert branch.trained, "no branch is empty"
        assert [m.epoch for m in branch.curve] == list(range(branch.start.epoch + 1, branch.last + 1))
        if branch.start.branch is not None:
            assert branch.start.branch < branch.number
    assert [m.epoch for m in session.curve()] == list(range(1, session.at.epoch + 1))
    assert len(session.closed) in (len(session.branches), len(session.branches) - 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(LINES, st.floats(0, 1), st.just("diverge"), st.just("fail")), max_size=25))
def test_any_session_is_a_tree_that_its_journal_repeats(steps: list[str | float]) -> None:
    session = new_session(epochs=EPOCHS)
    first = events.begun(session.values, session.epochs, 0.0, 0.0)
    journal = [first]
    for step in steps:
        before, trained = session, None
        if isinstance(step, str) and step not in ("diverge", "fail"):
            session = heard(session, step, 1.0)
            if session != before:
                journal.append(events.said(before, step, 1.0, scripted=False))
        elif session.is_running and session.stuck is None:
            trained = _trained(session, step)
            session = session.after(trained)
            journal.append(events.trained(trained))
        check(session)
        for branch in before.closed:
            assert session.branches[branch.number] == branch, "a closed branch stays as it is"
        if session.end is not None:
            journal.append(events.resumed(2.0))
            session = events.after(session, journal[-1])
    again = events.replayed(STUDY, journal)
    assert again == session or math.isnan(
        sum(m.metrics["dev_loss"] for b in session.branches for m in b.curve)
    )
    assert again.at == session.at


def _trained(session: Session, step: str | float) -> Trained:
    if step == "fail":
        return Trained(None, Outcome.FAILED, "two and two are five")
    loss = math.inf if step == "diverge" else float(step)
    outcome = Outcome.DIVERGED if step == "diverge" else Outcome.COMPLETED
    grown = train(replace(session), loss, outcome=outcome)
    return grown.branches[grown.at.branch or 0].trained[-1]


def test_options_that_no_study_declares_can_be_chosen() -> None:
    space = cv.Space(decay=cv.choice("constant", "cosine"), optimizer=cv.choice("sgd", "adam"))
    study = cv.Study(name="few", objective=STUDY.objective, space=space, rounds=[cv.Round(4, epochs=12)])
    session = train(say_all(train(new_session(study), 0.9), "decay inverse", "decay_rate 0.2"), 0.8)
    assert session.params["decay"] == "inverse"
    assert session.params["decay_rate"] == 0.2
