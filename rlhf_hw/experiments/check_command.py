"""The command `rlhf-hw check-replies`: its flags, and what it says. Imports what it needs when it runs."""

import argparse
import json
from pathlib import Path

CHECKS = "say how a file of generated replies is damaged"


def add_check_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `rlhf-hw check-replies`."""
    text = "the other model's replies to compare with, or references; may be given again"
    parser.add_argument("file", type=Path, metavar="FILE", help="replies, no scores needed: response, prompt")
    parser.add_argument("--against", type=Path, metavar="FILE", action="append", default=[], help=text)
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="where the rows of FILE have none")
    parser.add_argument("--mapping", default="", help="other names in the files: response=answer,prompt=text")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def reply_findings(options: argparse.Namespace) -> str:
    """What `rlhf-hw check-replies` prints."""
    from rlhf_hw.experiments.check_replies import check_replies
    from rlhf_hw.preferences.score_files import parse_mapping

    found = check_replies(options.file, options.against, options.prompts, parse_mapping(options.mapping))
    return json.dumps(found.to_dict(), indent=1, ensure_ascii=False) if options.json else found.summary()
