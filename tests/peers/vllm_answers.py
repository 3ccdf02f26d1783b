"""vllm_answers.py FOLDER ASKED FOUND: let vLLM answer what ASKED holds, and write FOUND; both json.

Run by the interpreter of an environment that has vLLM and omni-stages, see scripts/test_vllm.sh.
"""

import json
import os
import sys
from pathlib import Path

os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
               "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}  # fmt: skip


def main(folder: str, asked: str, found: str) -> None:
    from vllm import LLM, SamplingParams

    llm = LLM(folder, trust_remote_code=True, dtype="float32", max_model_len=2048,
              enforce_eager=True, limit_mm_per_prompt={"image": 4, "audio": 4})  # fmt: skip
    settings = SamplingParams(temperature=0, max_tokens=12, logprobs=1)
    answers = llm.chat(json.loads(Path(asked).read_text()), settings)
    Path(found).write_text(json.dumps([
        {"prompt": list(a.prompt_token_ids), "ids": list(a.outputs[0].token_ids),
         "logprobs": [next(iter(at.values())).logprob for at in a.outputs[0].logprobs]}
        for a in answers
    ]))  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
