"""The refusals of storage operations, worded here once for every implementation."""

from __future__ import annotations

from typing import ClassVar

from peer.protocol.errors import Conflict, Forbidden, Gone, NotFound, RateLimited, Unauthorized, Unavailable


class LimitReached(RateLimited):
    """A limit of StorageLimits refused the operation; `limit` is its name."""

    limit: ClassVar[str]


class UnknownUser(Unauthorized):
    """The user never signed in at this broker."""

    def __init__(self, user_id: str) -> None:
        super().__init__(f"{user_id} has not signed in to this broker")


class OtherSchema(Unavailable):
    """The tables are of another version of the program, and this is not the moment to migrate them."""

    def __init__(self, where: str, *, found: int, known: int) -> None:
        fix = (
            "use the version of dispatch-rendezvous that the broker runs"
            if found > known
            else "restart the broker with this version, which brings its tables up to date"
        )
        super().__init__(f"{where} has tables of version {found}, and this program's are of version {known}", fix=fix)


class NoSuchAccount(NotFound):
    """The operator named an address that nobody claimed."""

    def __init__(self, user_id: str) -> None:
        super().__init__(f"there is no account of {user_id} on this broker", fix="see `dispatch-rendezvous user list`")


class UnknownDevice(Forbidden):
    """The user is known, the device is not, or no longer, in their device-set."""

    def __init__(self, user_id: str) -> None:
        super().__init__(
            f"this device is no longer one of {user_id}'s devices",
            fix="run `dispatch login` again; `dispatch whoami` shows who is signed in here",
        )


class NonceUsed(Conflict):
    """The device's signed request was already accepted."""

    def __init__(self) -> None:
        super().__init__("this request was already used once", fix="run the command again")


class OtherRoot(Conflict):
    """The e-mail address belongs to another root key."""

    def __init__(self, user_id: str) -> None:
        super().__init__(
            f"{user_id} already has another root key, from a first sign-in on another device",
            fix="use dispatch on that device, or move its state folder here; if every device is lost, ask the broker's "
            "operator to release the address",
        )


class OldDeviceSet(Conflict):
    """The device-set has a lower epoch than the stored one, or the same epoch and other content (a fork)."""

    def __init__(self, user_id: str) -> None:
        super().__init__(
            f"this device has an older list of {user_id}'s devices than the broker",
            fix="let this device connect to your other devices once, then run `dispatch login` again",
        )


class OtherDeviceSet(Forbidden):
    """An invitation carries a device-set that is not the inviter's current one."""

    def __init__(self) -> None:
        super().__init__("the invitation carries a different device set than the broker has", fix="sign in again")


class TooManySignIns(LimitReached):
    """Too many of one user from one network."""

    limit = "open_sign_ins_from_one"

    def __init__(self) -> None:
        super().__init__("too many sign-ins are waiting for approval", fix="try again in ten minutes")


class UserCodeTaken(Conflict):
    """Another sign-in has this user code. Repeat the operation with another one."""

    def __init__(self) -> None:
        super().__init__("another sign-in already has that code", fix="try again")


class AccountFull(LimitReached):
    """The account has as many bytes kept as it may."""

    limit = "kept_bytes"

    def __init__(self, user_id: str, limit: int) -> None:
        super().__init__(
            f"this broker keeps at most {limit} bytes per account, and {user_id} has used them up",
            fix="try again later: answered, withdrawn and expired invitations are deleted after 30 days",
        )


class NoSuchSignIn(NotFound):
    """No unexpired sign-in has this code. The sentence is shown on a page."""

    def __init__(self) -> None:
        super().__init__(
            "No sign-in is waiting with that code", fix="check the code, or run `dispatch login` again on your device"
        )


class OldAnnouncement(Conflict):
    """`seq` is not higher than that of the device's last announcement or withdrawal."""

    def __init__(self) -> None:
        super().__init__("the broker already has a newer announcement of this device", fix="check this machine's clock")


class InvitationIdTaken(Conflict):
    """Another invitation has the same id."""

    def __init__(self) -> None:
        super().__init__("another invitation already has that id", fix="make a new invitation")


class TooManyInvitationsSent(LimitReached):
    """The inviter has to withdraw one, or wait for an answer."""

    limit = "open_invitations_sent"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"you already have {limit} open invitations",
            fix="withdraw one: `dispatch invitations` lists them, `dispatch invitations withdraw TOKEN` ends one",
        )


class TooManyInvitationsReceived(LimitReached):
    """The invitee has to answer one."""

    limit = "open_invitations_received"

    def __init__(self, invitee: str) -> None:
        super().__init__(f"{invitee} has too many open invitations", fix="ask them to answer some first")


class NoSuchInvitation(NotFound):
    """No invitation has this token, or the caller is neither its inviter nor its invitee."""

    def __init__(self) -> None:
        super().__init__(
            "you have no such invitation on this broker", fix="see `dispatch invitations`, or ask for a new one"
        )


class AlreadyAnswered(Conflict):
    """The invitation has an answer already."""

    def __init__(self, *, fix: str = "see `dispatch invitations`") -> None:
        super().__init__("that invitation was already answered", fix=fix)


class InvitationWithdrawn(Gone):
    """The inviter took the invitation back."""

    def __init__(self) -> None:
        super().__init__("that invitation was withdrawn", fix="ask the person who invited you for a new one")


class InvitationExpired(Gone):
    """The invitation's time is over."""

    def __init__(self) -> None:
        super().__init__("that invitation expired", fix="ask the person who invited you for a new one")
