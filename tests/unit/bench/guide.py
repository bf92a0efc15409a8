"""The dataset script of guide yuanrong-pd-disaggregation, as it is printed there: the reference.

Left out: main(), the progress bars and the printed lines, which draw nothing from `random`.
"""

import json
import random
import string
from typing import Any


def tqdm(items: Any, desc: str) -> Any:
    return items


def gen_random_string(length: int = 10) -> str:
    """生成指定长度的随机字符串"""
    return "".join(random.choices(string.ascii_letters + string.digits, k=length))


def gen_random_seq(length: int = 128) -> str:
    """生成由随机字符串组成的序列"""
    return " ".join([gen_random_string(5) for _ in range(length)])


def gen_random_prompts(
    num_groups: int,
    num_prompts_per_group: int,
    prefix_length: int = 2048,
    suffix_length: int = 1024,
) -> list[str]:
    prompts = []
    for group_idx in tqdm(range(num_groups), desc="生成组"):  # noqa: B007
        # 为每个组生成一个固定的前缀
        prefix = gen_random_seq(prefix_length)
        # 为该组生成指定数量的提示
        for _ in range(num_prompts_per_group):
            suffix = gen_random_seq(suffix_length)
            prompt = prefix + " " + suffix
            prompts.append(prompt)
    random.shuffle(prompts)
    return prompts


def save_to_file(prompts: list[str], output_file: str) -> None:
    """将生成的提示保存为JSON格式,每条数据都用[]包裹"""
    with open(output_file, "w", encoding="utf-8") as f:
        for prompt in tqdm(prompts, desc="写入文件"):
            # 每条数据都是一个单独的JSON数组
            data = {"prompt": prompt}
            json_line = json.dumps(data, ensure_ascii=False)
            f.write(json_line + "\n")


def main(config: dict[str, int], output_path: str) -> None:
    # 设置随机种子
    random.seed(config["seed"])
    prompts = gen_random_prompts(
        config["num_groups"],
        config["num_prompts_per_group"],
        config["prefix_length"],
        config["suffix_length"],
    )
    save_to_file(prompts, output_path)
