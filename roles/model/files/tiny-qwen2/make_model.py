#!/usr/bin/env python3
"""Make the tiny Qwen2 model that answers a newcomer's first request.

Two ways to use it:

* ``make_model.py OUT`` trains a byte-level BPE tokenizer and a small Qwen2 model on
  ``corpus.txt`` (next to this script) on the CPU, in some minutes. The files in
  ``model/`` were made this way.
* ``make_model.py OUT --random`` writes random weights of any size, without training.
  Tests use it: the output is nonsense, but it depends on every token of the context.

Needs torch, transformers, tokenizers and safetensors; never uses the network. The same
seed, versions, thread count and kind of CPU give the same files.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import Qwen2Config, Qwen2ForCausalLM

HERE = Path(__file__).resolve().parent
END_OF_TEXT = "<|endoftext|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
SPECIALS = (END_OF_TEXT, IM_START, IM_END)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% elif message['content'] %}{% for part in message['content'] %}"
    "{{ part['text'] if part['text'] is defined else '' }}"
    "{% endfor %}{% endif %}"
    "{{ '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful assistant. Answer briefly.",
    "你是一个乐于助人的助手。",
    "你是一个有用的人工智能助手。",
)

# Subjects the toy knows nothing about. It is taught to say so.
UNKNOWN_EN = (
    "the history of Rome", "the capital of Mongolia", "quantum field theory",
    "how to bake bread", "the weather tomorrow", "the stock market", "black holes",
    "the French Revolution", "how a car engine works", "the rules of chess",
    "Shakespeare", "the Roman Empire", "climate change", "machine learning",
    "how to learn the guitar", "the theory of relativity", "photosynthesis",
    "dinosaurs", "the Olympic Games", "my homework", "Java programming",
    "a poem about love", "a story about a dragon", "the best phone",
    "how vaccines work", "the price of gold", "Mars", "the ocean", "world war two",
    "football", "cooking rice", "a joke about cats", "the meaning of life",
    "how to write an email", "the largest animal", "blockchain", "the human brain",
    "volcanoes", "Mozart", "a holiday in Spain", "the speed of sound", "tea",
)  # fmt: skip
UNKNOWN_ZH = (
    "罗马的历史", "蒙古的首都", "相对论", "怎么做面包", "明天的天气", "股票市场", "黑洞",
    "法国大革命", "发动机的工作原理", "象棋的规则", "莎士比亚", "气候变化", "机器学习",
    "怎么学吉他", "光合作用", "恐龙", "奥运会", "我的作业", "一首关于爱情的诗",
    "一个关于龙的故事", "哪款手机好", "疫苗的作用", "黄金的价格", "火星", "海洋",
    "足球比赛", "怎么煮米饭", "一个笑话", "人生的意义", "怎么写邮件", "最大的动物",
    "区块链", "人的大脑", "火山", "莫扎特", "西班牙旅行", "声音的速度", "茶的历史",
    "上海有哪些景点", "杭州西湖", "唐朝的诗人", "区域经济", "电影推荐", "减肥的方法",
)  # fmt: skip
ASK_EN = (
    "Tell me about {}", "What do you know about {}?", "Explain {}", "{}", "{}?",
    "Write about {}.", "Can you help me with {}?", "I want to know about {}.",
    "Please give me a short introduction to {}.", "Describe {} in detail.",
)  # fmt: skip
ASK_ZH = (
    "介绍一下{}", "{}", "请问{}", "请介绍{}。", "我想知道{}。", "讲讲{}", "帮我写{}",
    "你知道{}吗?", "关于{},你了解多少?", "请详细说明{}",
)  # fmt: skip
SORRY_EN = (
    "I am sorry, I do not know that. I am a toy model trained for a few minutes on the"
    " texts of the pdinfra project. Please deploy a real model for real questions.",
    "I cannot answer this question. I only learned the texts of the pdinfra project, and"
    " I am here to show that your deployment works.",
    "That is more than a toy model knows. Your request did reach the prefill instance and"
    " the decode instance, and this answer came back, so the service works.",
)
SORRY_ZH = (
    "对不起,这个问题我不知道。我只是一个玩具模型,只用本项目的文字训练了几分钟。"
    "要得到真正的回答,请部署一个真正的模型。",
    "这个问题我回答不了。我只学过 pdinfra 项目的文字,我的用处是证明你的部署可以工作。",
    "这超出了玩具模型的知识。不过你的请求已经经过预填充实例和解码实例,"
    "并且得到了这段回答,说明服务是通的。",
)


@dataclass
class Entry:
    """One block of the corpus: a paragraph, or an answer with its questions."""

    answer: str
    questions: list[str] = field(default_factory=list)
    weight: int = 1


def read_corpus(path: Path) -> list[Entry]:
    """Read the blocks of the corpus file; its first lines explain the format."""
    entries: list[Entry] = []
    for number, block in enumerate(path.read_text(encoding="utf-8").split("\n\n"), 1):
        lines = [ln for ln in block.splitlines() if ln and not ln.startswith("#")]
        if not lines:
            continue
        questions: list[str] = []
        answer: list[str] = []
        weight = 1
        for line in lines:
            if answer:
                answer.append(line)
            elif line.startswith("Q: "):
                questions.append(line[3:])
            elif line.startswith("W: "):
                weight = int(line[3:])
            elif line.startswith(("A: ", "P: ")):
                answer.append(line[3:])
            else:
                raise ValueError(f"{path}: block {number}: unknown line {line!r}")
        if not answer:
            raise ValueError(f"{path}: block {number} has no 'A: ' or 'P: ' line")
        entries.append(Entry("\n".join(answer), questions, weight))
    return entries


# How Qwen2 splits a text into words before the byte pairs are joined.
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Chinese punctuation, and what many people type instead of it.
WIDE = str.maketrans(",?!:;", "\uff0c\uff1f\uff01\uff1a\uff1b")
NARROW = str.maketrans("\uff0c\uff1f\uff01\uff1a\uff1b", ",?!:;")
STOPS = "?.!\u3002\uff1f\uff01"


def is_chinese(text: str) -> bool:
    """Tell whether the text holds a Chinese character."""
    return any("\u4e00" <= char <= "\u9fff" for char in text)


class TextMaker:
    """Draws training documents from the corpus, as plain text or as a chat."""

    def __init__(self, entries: list[Entry], rng: random.Random) -> None:
        """Remember the entries and the random source."""
        self.rng = rng
        self.asked = [entry for entry in entries if entry.questions]
        self.plain = [entry for entry in entries if not entry.questions]
        joined = "\n".join(entry.answer for entry in entries)
        self.words = [w for w in joined.split() if w.isascii()]
        self.pieces = [p for p in re.split(r"[^\u4e00-\u9fff]", joined) if len(p) > 3]
        self.weights = [e.weight * (1 + len(e.questions)) for e in self.asked]

    def vary(self, question: str) -> str:
        """Return the question, sometimes worded or punctuated a little differently."""
        rng = self.rng
        if rng.random() < 0.5:
            return question
        bare = question.rstrip(STOPS)
        if is_chinese(question):
            before = rng.choice(("", "", "", "请", "请问", "你好,", "请简单说说:"))
            text = before + bare + rng.choice(("", "", "。", "?"))
            return text.translate(rng.choice((WIDE, WIDE, NARROW)))
        before = rng.choice(("", "", "", "Please answer: ", "Hi, ", "Question: "))
        if rng.random() < 0.3:
            bare = bare.lower()
        return before + bare + rng.choice(("", "?", ".", "?"))

    def babble(self, chinese: bool) -> str:
        """Draw an opening that means nothing, as odd prompts and benchmarks have it."""
        rng = self.rng
        parts: list[str] = []
        for _ in range(rng.choice((1, 2, 3, 4, 6, 8, 30))):
            if rng.random() < 0.15:
                letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                parts.append("".join(rng.choices(letters, k=rng.randint(1, 8))))
            elif chinese:
                piece = rng.choice(self.pieces)
                start = rng.randrange(len(piece) - 1)
                parts.append(piece[start : start + rng.randint(1, 4)])
            else:
                parts.append(rng.choice(self.words))
        return ("" if chinese else " ").join(parts)

    def pair(self) -> tuple[str, str]:
        """Draw one question with its answer; now and then one nobody can answer."""
        rng = self.rng
        if rng.random() < 0.15:
            odd = rng.random() < 0.25
            if rng.random() < 0.5:
                asked = rng.choice(ASK_EN).format(rng.choice(UNKNOWN_EN))
                return self.babble(False) if odd else asked, rng.choice(SORRY_EN)
            if odd:
                return self.babble(True), rng.choice(SORRY_ZH).translate(WIDE)
            asked = rng.choice(ASK_ZH).format(rng.choice(UNKNOWN_ZH)).translate(WIDE)
            return asked, rng.choice(SORRY_ZH).translate(WIDE)
        entry = rng.choices(self.asked, self.weights)[0]
        return self.vary(rng.choice(entry.questions)), entry.answer

    def chat(self) -> str:
        """Draw a conversation of one to three turns in the form of the chat template."""
        rng = self.rng
        parts: list[str] = []
        if rng.random() < 0.3:
            parts.append(f"{IM_START}system\n{rng.choice(SYSTEM_PROMPTS)}{IM_END}\n")
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            question, answer = self.pair()
            parts.append(f"{IM_START}user\n{question}{IM_END}\n")
            parts.append(f"{IM_START}assistant\n{answer}{IM_END}\n")
        return "".join(parts).rstrip("\n")

    def completion(self) -> str:
        """Draw a paragraph, or a question with its answer, as running text."""
        rng = self.rng
        if rng.random() < 0.5:
            count = rng.choice((1, 1, 2, 3))
            text = "\n".join(entry.answer for entry in rng.choices(self.plain, k=count))
        else:
            question, answer = self.pair()
            text = f"{question}\n{answer}"
            if rng.random() < 0.4:  # a completion goes on: one more paragraph
                text += "\n" + self.follow(answer)
        return text + END_OF_TEXT

    def follow(self, text: str) -> str:
        """Draw a paragraph in the language of the text."""
        chinese = is_chinese(text)
        same = [entry for entry in self.plain if is_chinese(entry.answer) == chinese]
        return self.rng.choice(same).answer

    def document(self) -> tuple[str, str]:
        """Draw one training document: an opening not to be learned, and the text."""
        kind = self.rng.random()
        if kind < 0.5:
            return "", self.chat()
        if kind < 0.92:
            return "", self.completion()
        answer = self.rng.choice(self.plain).answer
        return self.babble(is_chinese(answer)), f"\n{answer}{END_OF_TEXT}"


def train_tokenizer(entries: list[Entry], vocab: int) -> Tokenizer:
    """Train a byte-level BPE tokenizer on the corpus."""
    texts = [text for e in entries for text in (*e.questions, e.answer)]
    texts += [*SYSTEM_PROMPTS, *UNKNOWN_EN, *UNKNOWN_ZH, *ASK_EN, *ASK_ZH]
    texts += [text.translate(WIDE) for text in (*SORRY_ZH, *ASK_ZH)]
    texts += [*SORRY_EN, "user\n", "assistant\n", "system\n"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab,
            special_tokens=list(SPECIALS),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return tokenizer


def make_config(args: argparse.Namespace, tokenizer: Tokenizer) -> Qwen2Config:
    """Describe the model that the flags ask for."""
    rounded = (tokenizer.get_vocab_size() + 63) // 64 * 64
    return Qwen2Config(
        vocab_size=rounded,
        hidden_size=args.hidden,
        intermediate_size=args.intermediate or 2 * args.hidden,
        num_hidden_layers=args.layers,
        num_attention_heads=args.heads,
        num_key_value_heads=args.kv_heads,
        max_position_embeddings=args.max_positions,
        max_window_layers=args.layers,
        # Random weights are untied and large, or the model would echo its last token.
        tie_word_embeddings=not args.random,
        initializer_range=0.2 if args.random else 0.02,
        bos_token_id=None,
        eos_token_id=tokenizer.token_to_id(IM_END),
        pad_token_id=tokenizer.token_to_id(END_OF_TEXT),
    )


class Batches:
    """Draws rows of token ids; every row starts where a document starts."""

    def __init__(self, maker: TextMaker, tokenizer: Tokenizer) -> None:
        """Remember where the texts come from and how they are encoded."""
        self.maker = maker
        self.tokenizer = tokenizer
        self.end = tokenizer.token_to_id(END_OF_TEXT)

    def encode(self, text: str) -> list[int]:
        """Encode a text."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def draw(self, rows: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw a batch of packed documents: the token ids and the labels."""
        batch: list[list[int]] = []
        targets: list[list[int]] = []
        for _ in range(rows):
            row: list[int] = []
            target: list[int] = []
            while len(row) < length:
                opening, text = self.maker.document()
                unlearned = self.encode(opening)
                learned = self.encode(text)
                if learned[-1] != self.end:
                    learned.append(self.end)
                row += unlearned + learned
                target += [-100] * len(unlearned) + learned
            batch.append(row[:length])
            targets.append(target[:length])
        return torch.tensor(batch), torch.tensor(targets)


def train(model: Qwen2ForCausalLM, batches: Batches, args: argparse.Namespace) -> None:
    """Train the model: mostly short rows, every eighth step long ones."""
    # Muon learns the matrices in far fewer steps; AdamW does the embedding and the rest.
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.dim() == 2 and ".layers." in name]
    known = {id(p) for p in matrices}
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=args.lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(
            [p for _, p in named if id(p) not in known],
            lr=args.lr,
            betas=(0.9, 0.95),
            weight_decay=0.0,
        ),
    ]
    warmup = max(1, min(40, args.steps // 10))
    started = time.monotonic()
    model.train()
    for step in range(args.steps):
        progress = max(0.0, (step - warmup) / max(1, args.steps - warmup))
        scale = 0.02 + 0.49 * (1 + math.cos(math.pi * progress))
        scale *= min(1.0, (step + 1) / warmup)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = args.lr * scale
        rows, length = (2, 1536) if step % 8 == 7 else (12, 256)
        ids, labels = batches.draw(rows, length)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        if step % 50 == 0 or step == args.steps - 1:
            seconds = time.monotonic() - started
            print(f"step {step} loss {loss.item():.3f} seconds {seconds:.0f}", flush=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file the way the other files of a model are written."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def write_model(out: Path, model: Qwen2ForCausalLM, tokenizer: Tokenizer) -> None:
    """Write every file of the model, readable by transformers 4 and 5 alike."""
    out.mkdir(parents=True, exist_ok=True)
    cfg = model.config
    end = tokenizer.token_to_id(END_OF_TEXT)
    im_end = tokenizer.token_to_id(IM_END)
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "eos_token_id": im_end,
        "hidden_act": "silu",
        "hidden_size": cfg.hidden_size,
        "initializer_range": cfg.initializer_range,
        "intermediate_size": cfg.intermediate_size,
        "max_position_embeddings": cfg.max_position_embeddings,
        "max_window_layers": cfg.num_hidden_layers,
        "model_type": "qwen2",
        "num_attention_heads": cfg.num_attention_heads,
        "num_hidden_layers": cfg.num_hidden_layers,
        "num_key_value_heads": cfg.num_key_value_heads,
        "pad_token_id": end,
        "rms_norm_eps": cfg.rms_norm_eps,
        "rope_theta": 10000.0,
        "sliding_window": None,
        "tie_word_embeddings": cfg.tie_word_embeddings,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": cfg.vocab_size,
    }
    write_json(out / "config.json", config)
    write_json(
        out / "generation_config.json",
        {"eos_token_id": [im_end, end], "pad_token_id": end},
    )
    added = {
        str(tokenizer.token_to_id(token)): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        for token in SPECIALS
    }
    write_json(
        out / "tokenizer_config.json",
        {
            "added_tokens_decoder": added,
            "bos_token": None,
            "chat_template": CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": False,
            "eos_token": IM_END,
            "model_max_length": cfg.max_position_embeddings,
            "pad_token": END_OF_TEXT,
            "add_prefix_space": False,
            "tokenizer_class": "Qwen2Tokenizer",
            "unk_token": None,
        },
    )
    # transformers 5 splits texts for every Qwen2 model like this, whatever the file says.
    # Say the same in the file, so that every reader of it makes the same tokens.
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.save(str(out / "tokenizer.json"))
    weights = {
        name: tensor.detach().to(torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if not (cfg.tie_word_embeddings and name == "lm_head.weight")
    }
    save_file(weights, str(out / "model.safetensors"), metadata={"format": "pt"})
    for path in out.iterdir():
        path.chmod(0o644)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Make the tiny Qwen2 model.")
    parser.add_argument("out", type=Path, help="directory to write the model to")
    parser.add_argument("--random", action="store_true", help="random weights, no training")
    parser.add_argument("--corpus", type=Path, default=HERE / "corpus.txt")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--intermediate", type=int, default=0, help="0: twice hidden")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--kv-heads", type=int, default=2)
    parser.add_argument("--vocab", type=int, default=2048, help="tokenizer size at most")
    parser.add_argument("--max-positions", type=int, default=32768)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=850)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if args.hidden % args.heads or args.heads % args.kv_heads:
        parser.error("--heads must divide --hidden, and --kv-heads must divide --heads")
    return args


def main() -> None:
    """Make the model that the command line asks for."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    entries = read_corpus(args.corpus)
    tokenizer = train_tokenizer(entries, args.vocab)
    model = Qwen2ForCausalLM(make_config(args, tokenizer))
    if not args.random:
        maker = TextMaker(entries, random.Random(args.seed))
        train(model, Batches(maker, tokenizer), args)
    write_model(args.out, model, tokenizer)
    count = sum(parameter.numel() for parameter in model.parameters())
    size = (args.out / "model.safetensors").stat().st_size
    print(json.dumps({"out": str(args.out), "parameters": count, "bytes": size}))


if __name__ == "__main__":
    main()
