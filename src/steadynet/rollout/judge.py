"""The judge: is this challenger, on the evidence so far, no worse than the champion?

`judge` looks at the signals of `steadynet.rollout.budget`. Each is the difference of challenger
and champion, at the same time and on the same stream, with a tolerance (the difference that does
not matter) from the plan:

- `errors`: share of requests with the version's own fault. Shown worse: fail.
- `latency`: share of requests slower than the SLO. Shown worse: fail.
- `tail`, where the plan calls it critical: share of requests slower than the champion's usual 99th
  percentile. Shown worse: fail. It is asked for, since a challenger is answered beside the event
  loop, for the champion's sake, and the hop shows in milliseconds that break no objective.
- `outputs`: mean score, the share of answers on either side of any score, and (on pairs) share of
  rows with another label. A shift in either direction is suspicious, and without labels suspicion
  is all there is: shown shifted, it fails.
  It is no fault where labels show that the challenger is better, as a network that was retrained
  on a drifted world is: then the signal passes, and says why. In the shadow, where waiting harms
  nobody, labels that speak for the challenger without showing it yet are given time.
- `labels`: mean loss where the truth is known, paired where both answered the row. Shown worse:
  fail, however well all the rest looks. In the shadow, where waiting harms nobody, labels that
  come are waited for until they decide or the stage's time is up. In canary stages they are not,
  unless they *lean* against the challenger; labels that lean against it when the time is up have
  not let it pass. `min_labels` makes them a condition in every stage.
- `calibration`, `slices`, `value`: how far scores are from what happened, the loss within named
  slices, and the callers' own number. Shown worse: fail; they are not waited for.

A signal fails when a difference beyond tolerance is shown, passes when it is excluded, and is
`not_yet` otherwise; without data it is `not_yet`, and where what was measured cannot be true it is
`broken`. The whole fails when one signal fails, is broken when one is broken, and passes when all
critical signals pass and the stage has its `min_requests`.

All bounds are anytime-valid (`steadynet.statistics.sequential`), so `judge` may be asked every
second. Error budgets:

- *False failure* (`alpha` over the whole rollout): a challenger whose true differences are all
  within tolerance fails with probability at most `alpha`: an equal part for each signal, shared
  equally over the stages, except for losses and values, whose evidence runs through the whole
  rollout.
- *False pass* (`alpha` at each signal in each stage, not shared out): a challenger that is worse
  beyond tolerance in a signal must be passed by that signal in every stage to be promoted, so the
  chance of it is no more than the chance of one.
"""

from __future__ import annotations

import msgspec

from steadynet.rollout.budget import stage_alpha
from steadynet.rollout.evidence import Arm, Evidence, Outcome, Signal, Verdict
from steadynet.rollout.labels import judge_labels
from steadynet.rollout.outcomes import judge_calibration, judge_slices, judge_value
from steadynet.rollout.signals import judge_errors, judge_latency, judge_outputs, judge_tail
from steadynet.rollout.wording import verdict_sentence
from steadynet.spec.model import RolloutSpec


def judge(plan: RolloutSpec, evidence: Evidence) -> Verdict:
    """Return what the evidence says about the challenger in its present stage.

    Pure and repeatable: the same plan and evidence give the same verdict.
    """
    challenger, champion, alpha = evidence.challenger, evidence.champion, stage_alpha(plan)
    live = (
        judge_errors(plan, challenger, champion, alpha),
        judge_latency(plan, challenger, champion, alpha),
        judge_outputs(plan, evidence, champion, alpha),
        *(
            (judge_tail(plan, evidence, challenger, champion, alpha),)
            if "tail" in plan.critical
            else ()
        ),
    )
    signals = (
        *(
            msgspec.structs.replace(signal, critical=signal.name in plan.critical)
            for signal in live
        ),
        judge_labels(plan, evidence),
        judge_calibration(plan, evidence),
        *((judge_slices(plan, evidence),) if plan.slices else ()),
        *((judge_value(plan, evidence),) if plan.value != "none" else ()),
    )
    outcome = _overall(plan, challenger, signals)
    impatient = tuple(signal for signal in signals if not signal.patient)
    return Verdict(
        stage=evidence.stage,
        outcome=outcome,
        when_time_is_up=_overall(plan, challenger, impatient),
        signals=signals,
        sentence=verdict_sentence(outcome, signals, challenger.requests, plan.min_requests),
    )


def _overall(plan: RolloutSpec, challenger: Arm, signals: tuple[Signal, ...]) -> Outcome:
    outcomes = {signal.outcome for signal in signals}
    if "fail" in outcomes:
        return "fail"
    if "broken" in outcomes:
        return "broken"
    if challenger.requests < plan.min_requests:
        return "not_yet"
    if all(signal.outcome == "pass" for signal in signals if signal.critical):
        return "pass"
    return "not_yet"
