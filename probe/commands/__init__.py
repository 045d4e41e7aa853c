"""The commands, one file each: parse, one call into the library, print."""
