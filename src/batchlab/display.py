"""What a notebook's page shows; where there is no page, its plain text. Never makes what is shown."""

from __future__ import annotations


def display_bundle(data: dict[str, object], metadata: dict[str, object] | None = None) -> None:
    """Display the same thing in several forms, of which Jupyter chooses one; in a plain script, print it as text.

    Args:
        data: A form for each MIME type, `text/plain` among them.
        metadata: Likewise.
    """
    from IPython import get_ipython  # only notebooks need it, and training is installed without
    from IPython.display import display

    if get_ipython() is None:
        print(data["text/plain"])  # `display` would print the bytes of a picture
    else:
        display(data, metadata=metadata, raw=True)
