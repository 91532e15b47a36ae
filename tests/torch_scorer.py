"""A small pair scorer in PyTorch that lets every utterance influence every pair."""

import torch


class Scorer(torch.nn.Module):
    """Maps [b, n, 5] to pair logits [b, n, n, 2]."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.row, self.column = torch.nn.Linear(5, 64), torch.nn.Linear(5, 64)
        self.pair, self.dropout = torch.nn.Linear(64, 2), torch.nn.Dropout(dropout)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        x = h + h.mean(1, keepdim=True)
        return self.pair(
            self.dropout(torch.relu(self.row(x)[:, :, None] + self.column(x)[:, None]))
        )
