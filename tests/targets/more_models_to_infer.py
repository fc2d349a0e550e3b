"""Small models whose forward passes take several arguments, or none of the usual kind."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical


class HeadAttention(nn.Module):
    """Without parameters: the source tells that there is an axis of heads."""

    def forward(self, queries, keys, values, attn_mask):
        _batch, _length, _heads, width = queries.shape
        scores = torch.einsum("blhe,bshe->bhls", queries, keys) / width**0.5
        if attn_mask is not None:
            scores = scores.masked_fill(attn_mask, float("-inf"))
        return torch.einsum("bhls,bshd->blhd", scores.softmax(-1), values)


class Forecaster(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seq_len, self.label_len, self.pred_len = 20, 8, 6
        self.value, self.mark = nn.Linear(3, 8), nn.Linear(4, 8)
        self.time = nn.Linear(20, 14)

    def forward(self, x_enc, x_mark_enc, x_dec, x_mark_dec):
        encoded = self.value(x_enc) + self.mark(x_mark_enc)
        decoded = self.value(x_dec) + self.mark(x_mark_dec)
        return self.time(encoded.transpose(1, 2)).transpose(1, 2) + decoded


class Critic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(11 + 3, 16), nn.Linear(16, 1)

    def forward(self, x, a):
        return self.last(F.relu(self.first(torch.cat([x, a], 1))))


class Field(nn.Module):
    """Positions and directions of view in one vector."""

    def __init__(self) -> None:
        super().__init__()
        self.places, self.views = nn.Linear(9, 16), nn.Linear(16 + 5, 4)

    def forward(self, x):
        places, views = torch.split(x, [9, 5], dim=-1)
        return self.views(torch.cat([F.relu(self.places(places)), views], -1))


class WithState(nn.Module):
    """Time first, and a state that the model makes itself."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.rnn, self.head = nn.Embedding(30, 6), nn.LSTM(6, 10, 2), nn.Linear(10, 30)

    def init_hidden(self, bsz):
        weight = next(self.parameters())
        return weight.new_zeros(2, bsz, 10), weight.new_zeros(2, bsz, 10)

    def forward(self, input, hidden):
        output, hidden = self.rnn(self.words(input), hidden)
        return self.head(output), hidden


class Captions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.rnn = nn.Embedding(40, 12), nn.LSTM(12, 10, batch_first=True)
        self.head = nn.Linear(10, 40)

    def forward(self, features, captions, lengths):
        words = torch.cat((features.unsqueeze(1), self.words(captions)), 1)
        packed = nn.utils.rnn.pack_padded_sequence(words, lengths, batch_first=True)
        return self.head(self.rnn(packed)[0][0])


class Policy(nn.Module):
    """No forward: the action is drawn inside."""

    def __init__(self) -> None:
        super().__init__()
        self.actor, self.critic = nn.Linear(7, 3), nn.Linear(7, 1)

    def get_value(self, x):
        return self.critic(x)

    def get_action_and_value(self, x, action=None):
        drawn = Categorical(logits=self.actor(x))
        action = drawn.sample() if action is None else action
        return action, drawn.log_prob(action), drawn.entropy(), self.critic(x)


class Abstract(nn.Module):
    """A forward that only raises, and a recurrent method beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.cell, self.head = nn.Linear(5, 8), nn.GRU(8, 8), nn.Linear(8, 2)

    def forward(self, inputs, rnn_hxs, masks):
        raise NotImplementedError

    def act(self, inputs, rnn_hxs, masks):
        x, hidden = self.cell(self.body(inputs).unsqueeze(0), (rnn_hxs * masks).unsqueeze(0))
        return self.head(x.squeeze(0)), hidden.squeeze(0)


class Trainer(nn.Module):
    """Nothing but a training step: its only part is checked."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 1))

    def update(self, loader, optimizer):
        for batch in loader:
            optimizer.zero_grad()
            self.trunk(batch).mean().backward()


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.module = nn.GRU(5, 5)

    def forward(self, *args):
        return self.module.forward(*args)


class Noise(nn.Module):
    """The noise is multiplied by floats: it is no index."""

    def __init__(self) -> None:
        super().__init__()
        self.label, self.net = nn.Embedding(10, 20), nn.Linear(20, 4)

    def forward(self, noise, labels):
        return self.net(torch.mul(self.label(labels), noise))


class TwoSizes(nn.Module):
    """28 and 29 both give 4 x 13 x 13."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(4 * 13 * 13, 10)

    def forward(self, x):
        return self.fc(F.max_pool2d(self.conv(x), 2).flatten(1))


class Neighbours(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 4)

    def forward(self, x, adj):
        return torch.mm(adj, self.first(x))


class Batch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.tags, self.head = nn.Embedding(50, 8), nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, batch):
        return self.head(self.words(batch["tokens"]).mean(1) + self.tags(batch["tags"]))


class Likeness(nn.Module):
    """A loss: both arguments lie between 0 and 1."""

    def forward(self, prediction, target):
        return F.binary_cross_entropy(prediction, target)


class Windows(nn.Module):
    """The author demands a size."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.layer = 12, nn.Linear(8, 8)

    def forward(self, x):
        b, n, c = x.shape
        assert n == self.count, "wrong number of tokens"
        return self.layer(x.view(b, 3, 4, c))


class Volume(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.channels, self.frames, self.image_size = 2, 4, 16
        self.conv = nn.Conv3d(2, 4, 3, padding=1)

    def forward(self, x, time):
        assert x.shape[1:] == (self.channels, self.frames, self.image_size, self.image_size)
        return self.conv(x) * time[:, None, None, None, None]


class Padded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(30, 8, padding_idx=0), nn.Linear(8, 2)

    def forward(self, tokens):
        return self.head(self.words(tokens).mean(1))


class Steps(nn.Module):
    """An index that says where the table begins, and a cell per step of a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.place = nn.Embedding(30, 8), nn.Parameter(torch.zeros(40, 8))

    def forward(self, tokens, start_pos: int):
        return self.words(tokens) + self.place[start_pos : start_pos + tokens.shape[1]]
