# script-version: 2.0
"""Send every Catalyst channel to a live ParaView client. The default pipeline.

The client listens (Catalyst > Connect) and finds each channel under its view's name. Where to is
taken from the environment variable TENSORVIEW_LIVE_URL (host:port).
"""

import os

from paraview import catalyst
from paraview.simple import TrivialProducer

options = catalyst.Options()
options.EnableCatalystLive = 1
options.CatalystLiveURL = os.environ.get("TENSORVIEW_LIVE_URL", "localhost:22222")

producers = {}


def catalyst_execute(info):
    description = info.dataDescription
    for index in range(description.GetNumberOfInputDescriptions()):
        name = description.GetInputDescriptionName(index)
        if name not in producers:
            producers[name] = TrivialProducer(registrationName=name)
        # Live ships what a producer last updated to: without this, stale data. The proxy's own
        # UpdatePipeline would also sum up every array for ParaView's panels, which nobody reads.
        producers[name].GetClientSideObject().UpdateTimeStep(info.time)
