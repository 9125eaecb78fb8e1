"""The commands of `zsvg`: one thin function each over the library."""
