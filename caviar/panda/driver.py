"""The driver of a session: it trains what the session asks for, and records it.

Each event is in the journal before the session shows it. So a session whose process is killed goes on where its screen
was. A branch gets its row as soon as it is closed.
"""

import math
import queue
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from caviar.data.splits import Dataset
from caviar.engine import Checkpoint, Part
from caviar.errors import ClusterError, StudyError
from caviar.objective import Objective
from caviar.panda import events
from caviar.panda.checkpoints import Checkpoints
from caviar.panda.commands import heard, split_commands
from caviar.panda.handover import final_trial, handed_over
from caviar.panda.replies import epoch_of
from caviar.panda.script import Script
from caviar.panda.session import START, End, Place, Session, Trained, result_of, trial_of
from caviar.panda.trainer import Deliver, Lost, News, Printed, Ready, Reply, Request, Trainer
from caviar.records.journal import Journal
from caviar.records.ledger import Ledger
from caviar.records.winner import Best
from caviar.storage.location import Location
from caviar.trial import Outcome, Result, Times, Trial

MAX_WAIT_S = 3_600.0
"""Longest wait for news, in seconds."""
PATIENCE_S = 5.0
"""Seconds after which an epoch that nobody waits for any more is stopped: a new process takes about as long."""
PRINTED = "printed: "
"""Beginning of the line that shows what user code printed last."""
MAX_PRINTED = 200
"""Largest number of printed lines that are kept."""


_NO_MORE = Script("standard input", ())
"""Script of a session to which nobody speaks any more."""


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """The request that the trainer works at."""

    ticket: int
    trial: Trial
    at: Place
    """State from which it continues."""
    rebuilt: Place | None
    """State whose checkpoint is made again; None for a new epoch."""


class Driver:
    """The driver of one session.

    Args:
        session: the session as it begins, or as its journal left it.
        objective: the objective of its study.
        dataset: all splits; the test split is sent with the branch that is handed over alone.
        seed: seed of all trainings.
        ledger: open for writing.
        journal: open for writing.
        checkpoints: those of the session.
        make_trainer: makes the trainer, given what takes its news.
        device: the device that it trains on.
        script: commands to say; None for those of a user.
        said: number of its lines that were said before an interruption.
        listen: called after each event with the session.
    """

    def __init__(
        self,
        session: Session,
        *,
        objective: Objective,
        dataset: Dataset | None,
        seed: int,
        ledger: Ledger,
        journal: Journal,
        checkpoints: Checkpoints,
        make_trainer: Callable[[Deliver], Trainer],
        device: str = "cpu",
        script: Script | None = None,
        said: int = 0,
        listen: Callable[[Session], object] = lambda session: None,
    ) -> None:
        self.session = session
        """The session as it is recorded; it is a value, so another thread may read it."""
        self.printed: deque[str] = deque(maxlen=MAX_PRINTED)
        """Lines that user code printed last."""
        self.answers: deque[tuple[str, bool]] = deque(maxlen=MAX_PRINTED)
        """Answers to the last commands and news, each with whether it is a refusal."""
        self.epochs_per_s: float | None = None
        """Pace of the last epochs."""
        self.best: Best | None = None
        """The network that was handed over."""
        self._objective, self._dataset, self._seed, self._device = objective, dataset, seed, device
        self._ledger, self._journal, self._checkpoints = ledger, journal, checkpoints
        self._script, self._listen = script, listen
        self._lines = deque(script.lines[said:] if script else ())
        self._inbox: queue.SimpleQueue[str | Script | News] = queue.SimpleQueue()
        self._engine: str | None = None
        self._ticket = 0
        self._under_way: _UnderWay | None = None
        self._next_at = self._asked_at = -math.inf
        self._epoch_at: float | None = None
        self._recorded = {int(trial) for trial in ledger.trials()["trial"]}
        self._trainer = make_trainer(self._inbox.put)

    @property
    def location(self) -> Location:
        """The run directory."""
        return self._ledger.location

    @property
    def is_ready(self) -> bool:
        """True once the trainer has made its engine."""
        return self._engine is not None

    def post(self, line: str) -> None:
        """Say a command; it is answered soon. Any thread may call this."""
        self._inbox.put(line)

    def post_end(self) -> None:
        """Say that no more commands come: the session is left as soon as it trains no further."""
        self._inbox.put(_NO_MORE)

    def run(self) -> None:
        """Train and obey until the user ends the session.

        Raises:
            StudyError: a line of the script is refused, or waits for an epoch that does not come.
            CaviarError: the engine cannot be made, or the disk or the store refuses.
        """
        try:
            while self.session.end is None:
                self._step()
            if self.session.end is End.FINISH:
                self._hand_over()
        except (StudyError, ClusterError):
            self._leave()
            raise
        finally:
            self._trainer.close()
        self._record()

    def _leave(self) -> None:
        """Leave the session after an error, so that its last branch is recorded."""
        if self.session.end is None:
            self._say("quit")
            self._record()

    def _step(self) -> None:
        """Say the next line of the script, or begin the next epoch, or wait for news."""
        if self._script is not None and self._follow(self._script):
            return
        if self._engine is not None and self._under_way is None and self._wants_epoch():
            self._request_epoch()
        try:
            self._take(self._inbox.get(timeout=self._wait_s()))
        except queue.Empty:
            return

    def _wants_epoch(self) -> bool:
        session = self.session
        return session.is_running and session.stuck is None and time.monotonic() >= self._next_at

    def _wait_s(self) -> float:
        """Return the seconds to wait for news: until the next epoch is due, if one is."""
        is_free = self._engine is not None and self._under_way is None
        if is_free and self.session.is_running and self.session.stuck is None:
            return max(0.0, self._next_at - time.monotonic())
        return MAX_WAIT_S

    def _follow(self, script: Script) -> bool:
        """Say the next line of the script if it is due; after the last one, leave once nothing is trained."""
        if self._under_way is not None:
            return False
        if not self._lines:
            if not self.session.is_running or self.session.stuck is not None:
                self._say("quit", scripted=True)
                return True
            return False
        line = self._lines[0]
        if not script.is_due(line, self.session):
            return False
        self._lines.popleft()
        self._say(line.command, scripted=True)
        if self.session.is_refusal:
            raise script.error(line, self.session.answer)
        return True

    def _say(self, line: str, scripted: bool = False) -> None:
        """Let the session hear a command, and record it if it does anything."""
        now = time.time()
        heard_session = heard(self.session, line, now)
        if heard_session != self.session or (scripted and not heard_session.is_refusal):
            self._write(events.said(self.session, line, now, scripted))
        self._show(heard_session)

    def _write(self, event: events.Event) -> None:
        """Write an event to the journal, unless another process has taken the run's lock."""
        self._ledger.check_lock()
        self._journal.write(event)

    def _show(self, session: Session) -> None:
        """Let others see the session, which is in the journal."""
        if session.answer:
            self.answers.append((session.answer, session.is_refusal))
        self.session = session
        self._listen(session)

    def _take(self, news: str | Script | News) -> None:
        match news:
            case str():
                for line in split_commands(news):
                    self.answers.append((f"> {line}", False))
                    self._say(line)
                    if self.session.is_refusal:
                        break
                self._interrupt_if_unwanted()
            case Script():
                self._script = news
            case Ready(engine, warnings):
                self._engine = engine
                self.printed.extend(warnings)
            case Printed(text):
                self.printed.append(text)
                self._show_printed(text)
            case Reply():
                self._take_reply(news)
            case Lost(why):
                self._take_loss(why)

    def _show_printed(self, text: str) -> None:
        """Show what user code printed last, in one line: it must not hide the answers."""
        if self.answers and self.answers[-1][0].startswith(PRINTED):
            self.answers.pop()
        self.answers.append((f"{PRINTED}{text}", False))

    def _interrupt_if_unwanted(self) -> None:
        """Stop a long epoch that nobody waits for any more: the user has stepped back, or changed something."""
        under_way = self._under_way
        if under_way is None or self._is_wanted(under_way):
            return
        if time.monotonic() - self._asked_at > PATIENCE_S:
            self._trainer.interrupt()

    def _take_loss(self, why: str) -> None:
        """Note that the trainer's process is dead; the next request starts another.

        Raises:
            ClusterError: it died before its first engine was there.
        """
        if self._engine is None:
            raise ClusterError(f"the training process cannot start: {why}")
        under_way, self._under_way = self._under_way, None
        if under_way is not None and self._is_wanted(under_way):
            self._record_epoch(Trained(None, Outcome.FAILED, why, time=time.time()), None)

    def _request_epoch(self) -> None:
        """Ask the trainer for the next epoch, or for an earlier one whose checkpoint is needed and gone."""
        self._send(self._next_request())

    def _send(self, found: tuple[_UnderWay, Request]) -> None:
        self._under_way, request = found
        self._asked_at = time.monotonic()
        self._next_at = self._asked_at + self.session.pace_s
        self._trainer.start(request)

    def _next_request(self) -> tuple[_UnderWay, Request]:
        """Return the request that comes next on the way to a new epoch."""
        session, place, missing = self.session, self.session.at, None
        while place != START and (checkpoint := self._checkpoints.read(place)) is None:
            place, missing = self._before(place), place
        checkpoint = None if place == START else self._checkpoints.read(place)
        if missing is not None:
            assert missing.branch is not None
            trial = trial_of(session.branches[missing.branch], self._seed)
        else:
            trial = Trial(
                number=session.next_trial,
                round=1,
                params=session.params,
                epochs=session.epochs,
                seed=self._seed,
            )
        self._ticket += 1
        part = Part(trial=trial, until=place.epoch + 1, checkpoint=checkpoint, keep_checkpoint=True)
        return _UnderWay(self._ticket, trial, place, missing), Request(self._ticket, part)

    def _before(self, place: Place) -> Place:
        """Return the state one epoch before another."""
        assert place.branch is not None
        start = self.session.branches[place.branch].start
        return start if start.epoch == place.epoch - 1 else Place(place.branch, place.epoch - 1)

    def _is_wanted(self, under_way: _UnderWay) -> bool:
        """Return whether the session still wants what was asked for: the user may have changed something since."""
        session, trial = self.session, under_way.trial
        if under_way.rebuilt is not None:
            return True
        same = (
            under_way.at == session.at and trial.params == session.params and trial.epochs == session.epochs
        )
        return same and session.end is None

    def _take_reply(self, reply: Reply) -> None:
        under_way = self._under_way
        if under_way is None or reply.ticket != under_way.ticket:
            return
        self._under_way = None
        epoch = epoch_of(reply, under_way.at.epoch + 1, self.session.metric, time.time())
        if not self._is_wanted(under_way):
            return
        if under_way.rebuilt is None or epoch.outcome is Outcome.FAILED:
            self._record_epoch(epoch, reply.end.checkpoint)
        elif reply.end.checkpoint is not None:
            self._checkpoints.write(under_way.rebuilt, reply.end.checkpoint, self._needed(self.session))

    def _record_epoch(self, epoch: Trained, checkpoint: Checkpoint | None) -> None:
        """Record an epoch and show it: first its checkpoint, then the event, then the rows of closed branches."""
        session = self.session.after(epoch)
        self._note_pace()
        if epoch.measurement is not None:
            self._ledger.keep()
            if checkpoint is not None and epoch.outcome is Outcome.COMPLETED:
                self._checkpoints.write(session.at, checkpoint, self._needed(session))
        self._write(events.trained(epoch))
        self._show(session)
        self._record()

    def _note_pace(self) -> None:
        """Average the time between epochs over the last few."""
        now, before = time.monotonic(), self._epoch_at
        self._epoch_at = now
        if before is not None and now > before:
            latest = 1 / (now - before)
            self.epochs_per_s = (
                latest if self.epochs_per_s is None else 0.7 * self.epochs_per_s + 0.3 * latest
            )

    def _needed(self, session: Session) -> set[Place]:
        """Return the states whose checkpoints are kept longest: ends and starts of branches, and the present one."""
        tips = {session.tip(branch.number) for branch in session.branches}
        return {session.at, *tips, *(branch.start for branch in session.branches)}

    def _record(self) -> None:
        """Record the branches that are closed by now."""
        new = [branch for branch in self.session.closed if branch.number not in self._recorded]
        if not new:
            return
        node = socket.gethostname()
        self._ledger.add(
            [result_of(b, self.session, self._seed, self._engine or "", self._device, node) for b in new]
        )
        self._ledger.write()
        self._recorded |= {branch.number for branch in new}

    def _hand_over(self) -> None:
        """Write the network of the present state to `best/`, scored once on the test split, and record it.

        Raises:
            StudyError: it cannot be scored.
        """
        self._record()
        session, began = self.session, time.time()
        checkpoint = self._rebuilt(session.at)
        trial = final_trial(session, self._seed)
        test = self._dataset.test if self._dataset is not None else None
        self._ticket += 1
        reply = self._await(
            Request(self._ticket, Part(trial=trial, checkpoint=checkpoint), test, is_final=True)
        )
        last = session.curve()[-1]
        self.best = handed_over(
            self._objective, self._dataset, trial, last.metrics[session.metric], reply.scores
        )
        self._ledger.write_best(self.best, checkpoint, self._dataset, reply.predictions)
        final = Result(
            trial=trial,
            outcome=Outcome.COMPLETED,
            value=self.best.value,
            measurements=(last,),
            failure=reply.end.failure,
            test=reply.scores,
            engine=self._engine or "",
            device=self._device,
            worker=f"{self._device}-0",
            node=socket.gethostname(),
            times=Times(setup_s=time.time() - began),
            started=began,
            ended=time.time(),
        )
        self._ledger.add([final])
        self._ledger.write()

    def _rebuilt(self, place: Place) -> Checkpoint:
        """Return the checkpoint of a state, which is trained again if it is gone."""
        while (checkpoint := self._checkpoints.read(place)) is None:
            under_way, request = self._next_request()
            reply = self._await(request)
            epoch = epoch_of(reply, under_way.at.epoch + 1, self.session.metric, time.time())
            if (
                epoch.outcome is not Outcome.COMPLETED
                or under_way.rebuilt is None
                or reply.end.checkpoint is None
            ):
                raise StudyError(f"the network cannot be trained again: {epoch.failure}")
            self._checkpoints.write(under_way.rebuilt, reply.end.checkpoint, {place})
        return checkpoint

    def _await(self, request: Request) -> Reply:
        """Return the reply to a request; commands meanwhile are not heard.

        Raises:
            ClusterError: the trainer's process died.
        """
        is_sent = False
        while True:
            if self._engine is not None and self._under_way is None and not is_sent:
                self._trainer.start(request)
                is_sent = True
            news = self._inbox.get()
            if isinstance(news, Reply) and news.ticket == request.ticket:
                return news
            if isinstance(news, Lost):
                raise ClusterError(f"{news.why}; `caviar panda RUN` goes on")
            if isinstance(news, Reply):
                self._under_way = None
            if isinstance(news, Ready):
                self._engine = news.engine
