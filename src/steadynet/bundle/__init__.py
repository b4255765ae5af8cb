"""The bundle: the signed folder that training ends at and everything else starts from."""
