"""Could somebody find out who was in the training set?

Two questions, by what an attacker holds: the generated volumes alone, or the checkpoint as well.
Distances alone answer neither: here attacks are carried out on patients whose membership is known,
training and held-out ones, which were separated by chance.
"""

from __future__ import annotations

from dataclasses import replace

from fastgan.audit.evidence import Evidence, Options
from fastgan.audit.judgement import (
    Control,
    Finding,
    Outcome,
    Question,
    answer,
    cannot_tell,
    unless_nameless,
)
from fastgan.audit.membership import insider, outsider
from fastgan.audit.membership.contest import Contest
from fastgan.audit.membership.distances import Reals
from fastgan.audit.membership.exposure import Exposure, exposure_of
from fastgan.audit.membership.figures import curves_and_scores
from fastgan.audit.membership.patients import Patients, patients_of
from fastgan.audit.membership.planted import (
    critic_controls,
    posing_control,
    pulled_controls,
    raised_controls,
    resplit,
)
from fastgan.audit.rules import limit
from fastgan.errors import AuditError, NotAsked

__all__ = ["judge"]

LARGEST = limit("membership.largest_auc")
"""Upper end of the interval of the strongest attack's AUC that still passes."""

VOLUMES = Question(
    "membership",
    "membership.volumes",
    "Can somebody who has the generated volumes tell who was trained on?",
)
CHECKPOINT = Question(
    "membership",
    "membership.checkpoint",
    "Can somebody who has the checkpoint, critic included, tell who was trained on?",
)


def judge(evidence: Evidence, options: Options) -> list[Finding]:
    """Attacks with the volumes, and with the checkpoint where there is one.

    Raises:
        AuditError: too few patients on a side, or real volumes that are all the same.
        NotAsked: a translator.
    """
    if evidence.translate is not None:
        raise NotAsked(
            "a translator's volumes follow their sources, and its critics judge patches; the "
            "attacks here are on generators and critics of whole volumes"
        )
    patients = patients_of(evidence, options.rng("membership/patients"))
    reals = Reals(patients, mirrored=_mirrors(evidence))
    contest = Contest.draw(
        patients.n_members, patients.n, options.rng("membership/deals"), options.permutations
    )
    parts = (
        (VOLUMES, lambda e, o: _volumes(reals, contest, e, o)),
        (CHECKPOINT, lambda e, o: _checkpoint(reals, contest, e, o)),
    )
    findings = answer(parts, evidence, options)
    return [unless_nameless(finding, evidence.nameless) for finding in findings]


def _mirrors(evidence: Evidence) -> bool:
    """Whether training mirrored volumes; of another program nobody knows."""
    used = evidence.augmentations
    return used is None or bool({"flip", "mirror"} & set(used))


_METHODS = (
    "A patient's score is the mean over its volumes; patients are the unit everywhere. Each attack "
    "is judged by the sum of its members' ranks (its AUC) and by the members among the 5 % of "
    "patients with the highest scores; p is that of the largest of all of them, standardised, "
    "under random deals of as many memberships. Interval: bootstrap over patients. Epsilon: "
    "the highest and the lowest tenth (at most 100 each) are guessed, and the bound is the largest "
    "epsilon under which so many right guesses have a probability of at most 5 %, whatever is "
    "learned at each guess, corrected for the number of attacks (after Steinke, Nasr and Jagielski "
    "2023, for a fixed number of members, pure epsilon, one patient exchanged for another). "
)
_LIMITS = (
    "Only these attacks were carried out; a better one, or one that knows more (part of the "
    "training set, other runs), may tell more. Who was held out must have been drawn at random. "
    "The bound of epsilon is a lower one: it never says that epsilon is small. Names of subjects "
    "are believed."
)


def _volumes(reals: Reals, contest: Contest, evidence: Evidence, options: Options) -> Finding:
    attacked = outsider.Outsider(reals, evidence.require_generated())
    member = reals.patients.member
    found = exposure_of(outsider.ATTACKS, attacked.scores(), member, contest, options)
    finding = _finding(
        VOLUMES,
        found,
        reals.patients,
        Outcome(
            "fail",
            f"The generated volumes give away who was trained on: {found.said}. Share none of "
            f"them; train for fewer steps, on more patients, or with {_OTHER}, and judge anew.",
        ),
        _METHODS + "Attacks: the nearest generated volume; its distance over that to the nearest "
        "other patient; the same of the mean logarithm of the ten nearest (a ratio of densities). "
        "Distances are those of voxels (at most 32^3 block means), in the best of eight mirror "
        "images where training mirrored. The reference are other patients of both sides alike.",
        f"Of the generated volumes the first {len(attacked)} were looked at. {_LIMITS}",
    )
    if options.quick:
        return finding
    decisive = pulled_controls(attacked, contest, options)
    quiet = (resplit(found.scores, member, options), posing_control(attacked, options))
    return _measured(finding, decisive, quiet)


_OTHER = "a penalty on real volumes (R1)"


def _checkpoint(reals: Reals, contest: Contest, evidence: Evidence, options: Options) -> Finding:
    held = evidence.insider()
    member = reals.patients.member
    found = exposure_of(
        insider.ATTACKS, insider.insider_scores(held, reals), member, contest, options
    )
    by_generator = len(insider.ATTACKS) * found.p_each[insider.INVERSION] <= options.alpha
    advice = (
        "Share neither the generator nor the critic"
        if by_generator
        else "Share volumes, or the generator alone, and never the critic"
    )
    finding = _finding(
        CHECKPOINT,
        found,
        reals.patients,
        Outcome(
            "fail" if by_generator else "warn",
            f"The checkpoint gives away who was trained on: {found.said}. {advice}; fewer steps "
            f"or {_OTHER} expose less.",
        ),
        _METHODS + "Attacks: the critic's score, with the patient's own label where the critic "
        "asks for one; and the distance that is left when the generator is inverted (the best of "
        "some latents, then gradient steps), over the distance to the nearest other patient.",
        f"{_LIMITS} The critic sees volumes at their centre and not mirrored.",
    )
    if options.quick:
        return finding
    decisive = raised_controls(found.scores, contest, options)
    try:
        known, blank = critic_controls(held, reals, options)
    except AuditError as error:
        return replace(finding, accepted=cannot_tell(str(error).rstrip(".")))
    quiet = (resplit(found.scores, member, options), blank)
    return _measured(finding, [*decisive, known], quiet)


def _finding(
    question: Question,
    found: Exposure,
    patients: Patients,
    rejected: Outcome,
    methods: str,
    limits: str,
) -> Finding:
    at = found.strongest
    low, high = found.intervals[at]
    accepted = Outcome("pass", f"No evidence that members can be told from others: {found.said}.")
    if high > LARGEST:
        accepted = cannot_tell(
            f"an AUC of up to {high:.2f} is not excluded, {LARGEST:g} would do: {found.said}",
            "hold out more patients",
        )
    return Finding(
        *question,
        accepted=accepted,
        rejected=rejected,
        p=found.p,
        value=float(found.areas[at]),
        value_name=f"AUC of {found.attacks[at]}, patients trained on against held out",
        interval=(low, high),
        floor=0.5,
        floor_name="expected where nothing is given away",
        n_volumes=len(patients.owner),
        n_subjects=patients.n,
        tables=found.tables(),
        figures=curves_and_scores(found, f"Who is named: {question.key}"),
        methods=methods,
        limits=limits,
    )


def _measured(finding: Finding, planted: list[Control], quiet: tuple[Control, ...]) -> Finding:
    """A finding with its controls, whose sentence says what would have been found."""
    decisive = [c for c in planted if c.decisive]
    said = "; ".join(f"{c.name}: {c.rate:.2f}" for c in decisive)
    accepted = finding.accepted
    if accepted.verdict == "pass":
        accepted = replace(accepted, sentence=f"{accepted.sentence} Share found of {said}.")
    power = "; ".join(
        f"{c.name}: {c.rate:.2f} (at least {c.interval[0]:.2f})" for c in decisive if c.runs > 1
    )
    return replace(finding, accepted=accepted, power=power, controls=(*planted, *quiet))
