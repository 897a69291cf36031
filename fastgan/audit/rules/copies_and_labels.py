"""Limits of memorization, labels and leakage."""

from __future__ import annotations

from fastgan.audit.rules.rule import CHOICE, Rule

__all__ = ["LABELS", "LEAKAGE", "MEMORIZATION"]

MEMORIZATION = (
    Rule(
        "memorization.copies.least_null",
        120,
        "volumes",
        "that are no copies: 12 lie above the 90 % quantile, fewer leave no tail to fit",
        "bench/results/audit/size-few_copies.json",
    ),
    Rule(
        "memorization.copies.least_excesses",
        10,
        "volumes",
        "above the threshold from which a tail is fitted; fewer say nothing of its shape",
        "bench/results/audit/size-few_copies.json",
    ),
    Rule(
        "memorization.copies.shape_spread",
        0.1,
        "shape of the tail",
        "mean of the prior of what it exceeds 0.1 by: 20 excesses alone know it to 0.25",
        "bench/results/audit/size-few_copies.json",
    ),
    Rule(
        "memorization.copies.decisive_noise",
        0.1,
        "typical distances of a held-out volume to training",
        "a copy with so little noise is one to any reader; the finding rests on its being found",
        "bench/results/audit/power-memorization-synthetic.json",
    ),
    Rule(
        "memorization.prevalence.largest_share",
        0.75,
        "share",
        "upper end of the share nearest to training that still passes: less than half is copied",
        CHOICE,
    ),
    Rule(
        "memorization.prevalence.small_share",
        0.6,
        "share",
        "upper end up to which copying that was found is a warning: less than 1 in 5 is copied",
        CHOICE,
    ),
    Rule(
        "memorization.prevalence.decisive_share",
        0.5,
        "share",
        "of the generated set replaced by copies: what a pass excludes must have been found",
        "follows from memorization.prevalence.largest_share",
    ),
    Rule(
        "memorization.prevalence.seen",
        0.95,
        "share of planted copies",
        "nearest to a training patient by a search that bounds how much is copied: by one that "
        "sees fewer, a share of copies looks smaller than it is",
        CHOICE,
    ),
    Rule(
        "memorization.prevalence.splits",
        99,
        "random splits",
        "more alarms than after all of these have a probability of 1 %: an audit has some twenty "
        "quiet controls, and at 1 in 20 one of them would cry wolf in most",
        CHOICE,
    ),
)

LABELS = (
    Rule(
        "labels.least_auc",
        0.65,
        "AUC",
        "the lower end of the classifier's interval has to reach it, or it judges no label",
        CHOICE,
    ),
    Rule(
        "labels.power",
        0.95,
        "share of runs",
        "in which a planted fault of labels must be found; alarms in one of twenty are of chance",
        CHOICE,
    ),
    Rule(
        "labels.augmentation.delta",
        0.05,
        "share",
        "largest share of flipped patients, and largest drift of a probability, that is tolerated",
        CHOICE,
    ),
    Rule(
        "labels.generated.tolerated",
        0.1,
        "share",
        "largest share of wrong labels among generated volumes: readers of nodules differ by more",
        CHOICE,
    ),
    Rule(
        "labels.generated.in_a_class",
        0.2,
        "share",
        "largest share among those of one class, which are fewer and so certified to less",
        CHOICE,
    ),
    Rule(
        "labels.generated.decisive_share",
        0.5,
        "share",
        "of swapped labels from which on a judgement that misses them is of no use",
        CHOICE,
    ),
    Rule(
        "labels.generated.clear",
        0.9,
        "probability",
        "from which a volume is read clearly: fewer than 1 in 20 such patients are misread",
        "bench/results/audit/power-generated_labels.json",
    ),
    Rule(
        "labels.generated.clearest",
        1 / 3,
        "share of the patients read as a class",
        "that counts as read clearly where fewer are read so surely: fewer volumes would certify "
        "nothing, more are misread more often",
        "bench/results/audit/power-generated_labels.json",
    ),
    Rule(
        "labels.generated.clarity",
        2.0,
        "ratio",
        "of misread clear volumes, generated over patients, that is allowed for, of a class and of "
        "others: the unclearer volumes are, the more often a confident reading is wrong",
        CHOICE,
    ),
    Rule(
        "labels.generated.misread_more",
        0.04,
        "share of clear volumes",
        "that generated ones may be misread beyond that: right labels at .85 of the patients' "
        "clarity then alarm in at most 1 of 100 sets",
        "bench/results/audit/power-generated_labels.json",
    ),
    Rule(
        "labels.generated.least",
        20,
        "generated volumes a class",
        "fewer certify no share that would do: 0 wrong of 19 may be 15 %",
        "Clopper-Pearson",
    ),
    Rule(
        "labels.laws.most",
        1.0,
        "errors of half a voxel there and back",
        "the worst that two linear interpolations do; a law with a fault is several times above it",
        "tests/audit/labels/test_laws.py",
    ),
)

LEAKAGE = (
    Rule(
        "leakage.agreement",
        0.8,
        "share of subjects",
        "whose planted field goes with the label: a weaker one helps a network little",
        CHOICE,
    ),
    Rule(
        "leakage.duplicates.found",
        1.0,
        "share of runs",
        "equal volumes are found by a hash, which misses none",
        "by construction",
    ),
)
