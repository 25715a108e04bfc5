"""A figure whose settings a reader can move. Never draws."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from batchlab.display import display_bundle
from batchlab.environment import is_live
from batchlab.figures.show import bundle, show


def sliders(draw: Callable[..., tuple[Figure, str]], **choices: Sequence) -> None:
    """Show a figure whose settings a reader can move, where a live front end is present; elsewhere the figure alone.

    The figure of the default settings is part of the output in either case, so that a saved notebook shows it
    wherever widgets do not work.

    Args:
        draw: Returns the figure and its alt text. Each of its arguments has a default: the setting to begin with.
        **choices: For each argument of `draw` the values among which the reader chooses, in order.

    Raises:
        ValueError: The choices are not those of the arguments, or a default is not among them.
    """
    settings = {name: argument.default for name, argument in inspect.signature(draw).parameters.items()}
    if settings.keys() != choices.keys():
        raise ValueError(f"sliders: draw takes {', '.join(settings)}, the choices are for {', '.join(choices)}.")
    for name, value in settings.items():
        if value not in choices[name]:
            raise ValueError(f"sliders: the default of {name} is not among its choices, {list(choices[name])}; add it.")
    data, metadata = bundle(*draw())
    if is_live():
        import ipywidgets  # elsewhere nobody would see it

        controls = {
            name: ipywidgets.SelectionSlider(
                options=list(choices[name]),
                value=value,
                description=name.replace("_", " "),
                continuous_update=False,
                style={"description_width": "8em"},
                layout={"width": "28em"},
            )
            for name, value in settings.items()
        }
        picture = ipywidgets.interactive_output(lambda **chosen: show(*draw(**chosen)), controls)
        box = ipywidgets.VBox([*controls.values(), picture])
        view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
        data["application/vnd.jupyter.widget-view+json"] = view
    display_bundle(data, metadata)
