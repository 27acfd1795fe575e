"""Which prior for this data set, before any training: scores on a sample, measured costs, a ranking.

`_transferability` is pure maths (LogME, H-score);
`survey` embeds a sample with each prior, times it, and scores the rows; `ranked` orders what was found.
"""

from __future__ import annotations

from rela_zoo.analysis.recommend._survey import LABELLED, UNLABELLED, Assessment, labels_of, ranked, recommend, survey
from rela_zoo.analysis.recommend._transferability import h_score, log_me

__all__ = ["LABELLED", "UNLABELLED", "Assessment", "h_score", "labels_of", "log_me", "ranked", "recommend", "survey"]
