"""The built-in host: self-supervised methods made of `lightly` parts, under solo-learn's contract and configuration.

`rela-zoo pretrain` runs it, `rela_zoo.hosts.builtin.train.train(cfg)` from Python; configurations move to solo-learn
unchanged.
"""
