"""What a model card says of a model's task: what it is, how to use it, and its figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from train.config import ARCHITECTURES, TaskName


@dataclass(frozen=True)
class CardTask:
    """The words of a task.

    Args:
        pipeline: the hub's name of it.
        noun: what the model is.
        trained: how it came to be.
        use: a program of a few lines.
        caution: what it does, and what is not known of it.
        figures: heading of the figures of validations.
        unit: what a row is made of.
    """

    pipeline: str
    noun: str
    trained: str
    use: str
    caution: str
    figures: str
    unit: str


_TEXT = CardTask(
    pipeline="text-generation",
    noun="A language model",
    trained="pre-trained",
    use="""from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # this folder, or its name on the hub
model = AutoModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
inputs = tokenizer("Once upon a time", return_tensors="pt")
written = model.generate(inputs["input_ids"], max_new_tokens=50)
print(tokenizer.decode(written[0]))""",
    caution=(
        "It goes on from a text. It has not been trained to follow instructions, nor examined for "
        "what it may\nsay that is wrong or harmful."
    ),
    figures="Perplexity",
    unit="Tokens",
)
_IMAGES = CardTask(
    pipeline="image-classification",
    noun="An image classifier",
    trained="trained",
    use="""from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

folder = "."  # this folder, or its name on the hub
model = AutoModelForImageClassification.from_pretrained(folder)
processor = AutoImageProcessor.from_pretrained(folder)
inputs = processor(Image.open("image.jpg"), return_tensors="pt")
print(model.config.id2label[int(model(**inputs).logits.argmax())])""",
    caution=(
        "It names one of the classes that it was trained on, whatever an image shows, and has not "
        "been\nexamined for what it gets wrong."
    ),
    figures="Validation",
    unit="Positions",
)
_SENTENCES = CardTask(
    pipeline="text-classification",
    noun="A classifier of text",
    trained="trained",
    use="""from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = "."  # this folder, or its name on the hub
model = AutoModelForSequenceClassification.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
inputs = tokenizer("A sentence.", return_tensors="pt")  # of a pair the second one comes next
print(model(**inputs).logits)  # of the classes in model.config.id2label, or the value itself""",
    caution=(
        "It answers in the terms of what it was trained on, whatever a text says, and has not been"
        "\nexamined for what it gets wrong."
    ),
    figures="Validation",
    unit="Tokens",
)
_CARDS: Mapping[TaskName, CardTask] = MappingProxyType(
    {
        "language_modelling": _TEXT,
        "image_classification": _IMAGES,
        "text_classification": _SENTENCES,
        "text_regression": _SENTENCES,
    }
)


def card_task(architecture: str) -> CardTask:
    """Return the words of the task that an architecture is of."""
    return next(_CARDS[task] for task, names in ARCHITECTURES.items() if architecture in names)
