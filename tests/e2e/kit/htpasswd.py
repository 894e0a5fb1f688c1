"""Files of users, as `htpasswd -B` writes them."""

# bcrypt of "secret", of the least cost.
HASH = "$2b$04$afZFdHnsI8TtC6W31syeou6cKFZ33VGXOQB3rxW8uscUo61BVO5o6"


def write_htpasswd(path, *users):
    """Makes the file of users whose password is "secret"; returns its path."""
    path.write_text("".join(f"{user}:{HASH}\n" for user in users))
    return path
