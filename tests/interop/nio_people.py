"""People with matrix-nio clients, E2EE on, each at a homeserver of their own: what two_nodes.py and three_nodes.py share."""
import logging, tempfile, time, warnings

from nio import (AsyncClient, AsyncClientConfig, EncryptionError, JoinResponse, LoginResponse, MegolmEvent, RoomCreateResponse, RoomInviteResponse,
                 RoomMessagesResponse, RoomMessageText, RoomPutStateResponse, RoomSendResponse, SyncResponse, UploadResponse)

from millpond_node import Failed

ENCRYPTED = [{"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}]
SEEN_S = 60.0


def ok(what, cond=True, info=""):
    if not cond:
        raise Failed(f"{what} {info}")
    print("ok", what, flush=True)


class Person:
    """One device of one user. `bodies` holds every readable text in the order of arrival, repeated ones too."""

    def __init__(self, url, user, password, device):
        self.label = device
        config = AsyncClientConfig(encryption_enabled=True, store_sync_tokens=True, max_timeouts=3, request_timeout=30)
        self.client = AsyncClient(url, user, store_path=tempfile.mkdtemp(), config=config)
        self.password, self.bodies, self.unreadable = password, [], []
        self.client.add_event_callback(lambda room, e: self.bodies.append((room.room_id, e.body)), RoomMessageText)
        self.client.add_event_callback(lambda room, e: self.unreadable.append((room.room_id, e)), MegolmEvent)

    @property
    def id(self):
        return self.client.user_id

    async def login(self):
        answer = await self.client.login(self.password, device_name=self.label)
        ok("login " + self.label, isinstance(answer, LoginResponse), answer)
        await self.settle()
        return self

    async def settle(self, rounds=2):
        for _ in range(rounds):
            answer = await self.client.sync(timeout=300, full_state=False)
            if not isinstance(answer, SyncResponse):
                raise Failed(f"{self.label}: sync answered {answer}")
            if self.client.should_upload_keys:
                await self.client.keys_upload()
            if self.client.should_query_keys:
                await self.client.keys_query()
            await self.client.send_to_device_messages()
        self.try_again()

    def try_again(self):
        """A message may overtake its key, which travels by another way; clients then decrypt once the key is there."""
        waiting, self.unreadable = self.unreadable, []
        for room, event in waiting:
            try:
                clear = self.client.decrypt_event(event)
            except EncryptionError:
                self.unreadable.append((room, event))
                continue
            self.bodies.append((room, clear.body))

    async def until(self, what, probe, limit_s=SEEN_S):
        end = time.monotonic() + limit_s
        while not probe():
            if time.monotonic() > end:
                raise Failed(f"{self.label}: {what}: not within {limit_s:.0f} s; read {self.bodies[-5:]}, unreadable {len(self.unreadable)}")
            await self.settle(1)
        ok(f"{self.label} {what}")

    async def create(self, name, invite, encrypted, version=None):
        answer = await self.client.room_create(name=name, invite=[p.id for p in invite], initial_state=ENCRYPTED if encrypted else [],
                                               room_version=version)
        ok(f"{self.label} creates {name}", isinstance(answer, RoomCreateResponse), answer)
        return answer.room_id

    async def encrypt(self, room):
        answer = await self.client.room_put_state(room, "m.room.encryption", ENCRYPTED[0]["content"])
        ok(f"{self.label} turns encryption on", isinstance(answer, RoomPutStateResponse), answer)
        await self.until("sees the room encrypted", lambda: self.client.rooms[room].encrypted)

    async def invite(self, room, person):
        answer = await self.client.room_invite(room, person.id)
        ok(f"{self.label} invites {person.label}", isinstance(answer, RoomInviteResponse), answer)

    async def history(self, room):
        """Every readable text of the room, by scrolling back as far as there is something."""
        found, start = [], self.client.next_batch
        for _ in range(20):
            answer = await self.client.room_messages(room, start, limit=50)
            if not isinstance(answer, RoomMessagesResponse):
                raise Failed(f"{self.label}: messages answered {answer}")
            found += [event.body for event in answer.chunk if isinstance(event, RoomMessageText)]
            if not answer.end or answer.end == start:
                break
            start = answer.end
        return found

    async def has_file(self, uri, content):
        answer = await self.client.download(mxc=uri)
        return getattr(answer, "body", None) == content

    async def accept(self, room):
        await self.until("sees the invite", lambda: room in self.client.invited_rooms)
        answer = await self.client.join(room)
        ok(f"{self.label} joins", isinstance(answer, JoinResponse), answer)
        await self.until("is in the room", lambda: room in self.client.rooms)

    async def sees_members(self, room, people):
        def all_there():
            users = self.client.rooms[room].users if room in self.client.rooms else {}
            return all(p.id in users and not users[p.id].invited for p in people)
        await self.until(f"sees {len(people)} members joined", all_there)

    async def knows_devices(self, people):
        """Holds the keys of every device named: without them a message cannot be encrypted for it."""
        def known():
            return all(any(d.id == p.client.device_id for d in self.client.device_store.active_user_devices(p.id))
                       for p in people if p is not self)
        await self.until("knows the devices of the others", known)

    async def say(self, room, body):
        answer = await self.client.room_send(room, "m.room.message", {"msgtype": "m.text", "body": body}, ignore_unverified_devices=True)
        ok(f"{self.label} sends {body!r}", isinstance(answer, RoomSendResponse), answer)

    async def reads(self, room, *bodies):
        await self.until(f"reads {list(bodies)}", lambda: all((room, body) in self.bodies for body in bodies))
        for body in bodies:
            if self.bodies.count((room, body)) != 1:
                raise Failed(f"{self.label}: {body!r} arrived {self.bodies.count((room, body))} times")

    async def upload(self, content):
        answer, _ = await self.client.upload(lambda *_: content, content_type="text/plain", filename="x.txt", filesize=len(content))
        ok(f"{self.label} uploads", isinstance(answer, UploadResponse), answer)
        return answer.content_uri

    async def downloads(self, uri, content, within_s=0.0):
        """`within_s`: how long "not there yet" is an answer, while the two nodes are being introduced."""
        end = time.monotonic() + within_s
        while True:
            answer = await self.client.download(mxc=uri)
            if getattr(answer, "body", None) == content or time.monotonic() >= end:
                break
            await self.settle(1)
        ok(f"{self.label} downloads {len(content)} bytes from the other node", getattr(answer, "body", None) == content, answer)

    async def close(self):
        await self.client.close()


warnings.filterwarnings("ignore", category=DeprecationWarning)
logging.getLogger("nio").setLevel(logging.CRITICAL)  # it warns of each message that its key has not reached
