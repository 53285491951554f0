"""Finding ParaView, and what runs inside it on the viewer's side."""
