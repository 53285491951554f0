"""Live data in sources that stay: cameras, colours and filters outlive a run and its connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paraview.simple import TrivialProducer
from vtkmodules.vtkCommonDataModel import vtkPolyData

from tensorview.client.window.notes import leaves
from tensorview.worker.frame import POLYDATA_CHANNELS

if TYPE_CHECKING:
    from vtkmodules.vtkCommonDataModel import vtkDataObject

    from tensorview.client.link import Link


CHANNEL_ARRAY = "__CatalystChannel__"


class LiveFeed:
    """Copies what a link receives into one source a channel.

    Args:
        link: where it comes from.
        waiting: what to say while no training is there.

    Attributes:
        sources: by channel; those of atlases come with the first layer that is in one.
        time: None: what is shown is now.
    """

    time = None

    def __init__(self, link: Link, *, waiting: str) -> None:
        self.link = link
        self._waiting = waiting
        self.sources: dict[str, Any] = {}
        for channel in POLYDATA_CHANNELS:
            self._put(channel, vtkPolyData())

    @property
    def status(self) -> str:
        """What to say of the connection, empty while all is as it should be."""
        if self.link.connected:
            return ""
        if self.link.ended:
            return "the training has ended"
        return self.link.trouble or self._waiting

    def poll(self) -> bool:
        """Take what has come; say whether there is anything new to show."""
        datasets = self.link.receive()
        if datasets is None:
            return False
        for channel, dataset in datasets.items():
            if channel in self.sources or leaves(dataset):
                self._put(channel, dataset)
        return True

    def run(self) -> tuple[str, str]:
        """Return directory and id of the run that is shown, empty where there is none."""
        for source in self.sources.values():
            notes = source.GetClientSideObject().GetOutputDataObject(0).GetFieldData()
            found = [notes.GetAbstractArray(name) for name in ("run_dir", "run_id")]
            if all(found):
                return found[0].GetValue(0), found[1].GetValue(0)
        return "", ""

    def _put(self, channel: str, dataset: vtkDataObject) -> None:
        if channel not in self.sources:
            self.sources[channel] = TrivialProducer(registrationName=f"live {channel}")
        copy = dataset.NewInstance()
        copy.ShallowCopy(dataset)
        # ParaView would name the source by it, as the filter behind it is named.
        for part in (copy, *leaves(copy)):
            part.GetFieldData().RemoveArray(CHANNEL_ARRAY)
        give(self.sources[channel], copy)


def give(source: Any, dataset: vtkDataObject) -> None:
    """Let a `TrivialProducer` hold a dataset.

    Its proxy's own update would sum up every array for ParaView's panels, each time.
    """
    producer = source.GetClientSideObject()
    producer.SetOutput(dataset)
    source.SMProxy.MarkModified(source.SMProxy)
    producer.Update()
