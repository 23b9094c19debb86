"""Train the autoregressive model on conversations of captions, instructions and images; continue such conversations."""

from __future__ import annotations

import json

import torch
import torch.nn.functional as F
from torch import nn
from transformers import DynamicCache, Emu3ForConditionalGeneration

from training import feed, models
from training.feed import ROW
from training.flow import PROMPTS
from training.optim import Training
from training.run import Clock, Log, Run, grid, load, save
from training.tokenizer import Codes
from training.words import CODES, GRID, PAD, Words

GUIDANCE, TEMPERATURE, TOP_K = 3.0, 0.9, 256
EDITS = (
    "now make it a raccoon",
    "make it at night",
    "Then make a variant where it's a watercolor.",
)


class NextCode(nn.Module):
    """The text model's loss on the visual tokens of a batch of sequences."""

    offsets: torch.Tensor  # of an image's visual tokens from its start
    line_ends: torch.Tensor

    def __init__(self, model: Emu3ForConditionalGeneration, words: Words) -> None:
        super().__init__()
        self.text_model, self.visual = model.model.text_model, words.visual
        offsets = torch.arange(GRID)[:, None] * ROW + torch.arange(GRID)
        self.register_buffer("offsets", offsets.flatten(), persistent=False)
        self.register_buffer("line_ends", torch.arange(GRID) * ROW + GRID, persistent=False)
        self.eol = words.control["eol"]

    def forward(self, ids: torch.Tensor, starts: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """`ids` (N, L) without their visual tokens, `starts` (N, images) of each image, `codes` (N, images, 256)."""
        n = len(ids)
        places = (starts[:, :, None] + self.offsets).view(n, -1)
        ids = ids.scatter(1, places, codes.view(n, -1) + self.visual)
        ids = ids.scatter(1, (starts[:, :, None] + self.line_ends).view(n, -1), self.eol)
        hidden = self.text_model(input_ids=ids, use_cache=False).last_hidden_state
        hidden = hidden.gather(1, (places - 1)[:, :, None].expand(-1, -1, hidden.shape[2]))
        head = self.text_model.embed_tokens.weight[self.visual : self.visual + CODES]
        logits = F.linear(hidden, head)
        logits = logits.float().view(-1, CODES)
        losses = F.cross_entropy(logits, codes.view(-1), reduction="none")
        return losses.view(*starts.shape, -1).mean((0, 2))


def train(run: Run) -> None:
    canvas, tokenizer, words = run.canvas(), Codes(run), run.words
    model = models.emu3(words).to(run.device)
    model.model.vqmodel = None  # frozen, trained before; joined again on export
    loss_of = NextCode(model, words).to(run.device).train()
    training = Training(
        loss_of.text_model,
        lr=2e-3,
        seconds=run.seconds,
        steps=run.steps,
        decay=run.decay,
        average=0.999,
    )
    done, size = run.restore("ar", loss_of.text_model, training), run.batch or 288
    kinds = [
        run.feed(feed.single, size, offset=done),
        run.feed(feed.triple, size // 3, offset=done + 500),
    ]
    compute, log, clock = run.faster(loss_of), Log("ar"), Clock(run.every)
    for pair in zip(*kinds, strict=False):
        for batch in pair:
            images = batch["starts"].shape[1]
            codes = (
                tokenizer.encode(canvas.draw(batch["scenes"]))
                .view(images, -1, GRID * GRID)
                .transpose(0, 1)
                .contiguous()
            )
            with run.autocast():
                losses = compute(run.send(batch["ids"]), run.send(batch["starts"]), codes)
            training.step(losses.mean())
        log(training.step_count + done, {"first": losses[0], "edited": losses[1:].mean()})
        if training.progress() >= 1:
            break
        if clock.strikes():
            with training.averaged():
                _save(run, model, tokenizer, training.step_count + done, size)
    for kind in kinds:
        kind.close()
    run.keep("ar", training, training.step_count + done)
    training.use_average()
    _save(run, model, tokenizer, training.step_count + done, size)


def _save(
    run: Run, model: Emu3ForConditionalGeneration, tokenizer: Codes, steps: int, size: int
) -> None:
    save(run.outputs, "ar", model.model.text_model)
    facts = {"steps": steps, "batch": size, "seed": run.seed}
    (run.outputs / "ar.json").write_text(json.dumps(facts))
    chat = Chat(run, model, [[text] for text in run.shown(PROMPTS, 1)], seed=1)
    sheets = [tokenizer.decode(chat.turn())]
    for text in EDITS:
        chat.say([text] * len(chat.texts))
        sheets.append(tokenizer.decode(chat.turn()))
    grid(torch.cat(sheets), len(chat.texts)).save(run.outputs / "ar.png")
    print("ar saved", facts, flush=True)


def restored(run: Run) -> Emu3ForConditionalGeneration:
    model = models.emu3(run.words).to(run.device).eval().requires_grad_(False)
    model.model.vqmodel = None
    load(run.inputs, "ar", model.model.text_model)
    return model


class Chat:
    """A batch of conversations that the model continues, each turn from its whole token sequence.

    Guidance compares the conversation with the same one in which every text is empty and the images are kept.
    """

    def __init__(
        self, run: Run, model: Emu3ForConditionalGeneration, texts: list[list[str]], seed: int, guidance: float = GUIDANCE,
        temperature: float = TEMPERATURE, top_k: int = TOP_K,
    ) -> None:  # fmt: skip
        self.run, self.model, self.words = run, model, run.words
        self.texts = [list(said) for said in texts]
        self.images: list[torch.Tensor] = []  # codes (N, 16, 16) of each turn so far
        self.guidance, self.temperature, self.top_k = guidance, temperature, top_k
        self.generator = torch.Generator(run.device).manual_seed(seed)

    def say(self, texts: list[str]) -> None:
        for said, text in zip(self.texts, texts, strict=True):
            said.append(text)

    def show(self, codes: torch.Tensor) -> None:
        """Take these codes as the turn's image instead of drawing one."""
        self.images.append(codes)

    def _sequence(self, row: int, silent: bool) -> list[int]:
        ids: list[int] = []
        for turn, text in enumerate(self.texts[row]):
            ids += self.words.turn([] if silent else self.words.ids([text])[0], first=turn == 0)
            if turn < len(self.images):
                for line in self._pictures[turn][row]:
                    ids += [self.words.visual + code for code in line] + [self.words.control["eol"]]
                ids += [self.words.control["eof"], self.words.control["eoi"]]
        return ids

    @torch.no_grad()
    def turn(self) -> torch.Tensor:
        """Draw the next image; its codes (N, 16, 16)."""
        n = len(self.texts)
        self._pictures = [codes.tolist() for codes in self.images]
        rows = [self._sequence(row, silent) for silent in (False, True) for row in range(n)]
        length = max(map(len, rows))
        ids = torch.tensor(
            [[PAD] * (length - len(row)) + row for row in rows], device=self.run.device
        )
        mask = torch.tensor(
            [[0] * (length - len(row)) + [1] * len(row) for row in rows], device=self.run.device
        )
        cache, places = DynamicCache(), (mask.cumsum(1) - 1).clamp(min=0)
        eol = torch.full((2 * n, 1), self.words.control["eol"], device=self.run.device)
        drawn: list[torch.Tensor] = []
        for _ in range(GRID * GRID):
            with self.run.autocast():
                hidden = self.model.model.text_model(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=places,
                    past_key_values=cache,
                    use_cache=True,
                ).last_hidden_state[:, -1]
                head = self.model.lm_head.weight[self.words.visual : self.words.visual + CODES]
                with_text, without = F.linear(hidden, head).float().log_softmax(-1).chunk(2)
            code = self._pick(without + self.guidance * (with_text - without))
            drawn.append(code)
            ids = (code + self.words.visual).repeat(2)[:, None]
            if len(drawn) % GRID == 0:
                ids = torch.cat([ids, eol], 1)
            mask = torch.cat([mask, mask.new_ones(2 * n, ids.shape[1])], 1)
            places = places[:, -1:] + torch.arange(1, ids.shape[1] + 1, device=places.device)
        self.images.append(torch.stack(drawn, 1).view(n, GRID, GRID))
        return self.images[-1]

    def _pick(self, logits: torch.Tensor) -> torch.Tensor:
        logits = logits / self.temperature
        least = logits.topk(self.top_k).values[:, -1:]
        shares = logits.masked_fill(logits < least, -torch.inf).softmax(-1)
        return torch.multinomial(shares, 1, generator=self.generator)[:, 0]
