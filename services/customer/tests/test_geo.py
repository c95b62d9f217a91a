"""Customers on the map."""

import random
from typing import Any

import pytest
from crmkit.auth import system
from crmkit.positions import from_gcj, metres, to_gcj
from crmkit.scope import enter
from crmkit.testing import Refused, Service
from customer import geo, places
from customer.model.account import Account
from sqlalchemy import text

BUND = (31.2400, 121.4900)


async def pinned(customer: Service, name: str, latitude: float, longitude: float, **fields: Any) -> Any:
    made = await customer.sales1.CreateAccount(account={"displayName": name})
    return await customer.sales1.PinAccount(name=made.name, latitude=latitude, longitude=longitude, **fields)


@pytest.mark.capability("c.geo")
def test_positions_go_to_chinese_maps_and_back_within_a_centimetre() -> None:
    # Published pairs of both systems: Tiananmen, and a place outside China.
    drawn = to_gcj(39.907333, 116.391083)
    assert metres(drawn, (39.908737, 116.397327)) < 1
    assert to_gcj(48.8584, 2.2945) == from_gcj(48.8584, 2.2945) == (48.8584, 2.2945)
    chance = random.Random(1)
    for _ in range(500):
        there = (chance.uniform(18, 53), chance.uniform(74, 134))
        assert metres(there, from_gcj(*to_gcj(*there))) < 0.01
    assert geo.cell(57.64911, 10.40744, 9) == "u4pruydqq"


@pytest.mark.capability("c.geo")
async def test_what_is_near_is_found_by_distance_within_what_the_caller_sees(customer: Service) -> None:
    here = await pinned(customer, "外滩灯具有限公司", *BUND)
    near = await pinned(customer, "外滩邻居茶叶有限公司", BUND[0] + 0.03, BUND[1])
    await pinned(customer, "外滩远方船务有限公司", BUND[0] + 0.06, BUND[1])
    assert (here.pin.latitude, here.pin.precision, here.pin.source) == (31.24, "PIN", "MANUAL")
    assert 200 < metres(BUND, (here.pin.gcj_latitude, here.pin.gcj_longitude)) < 800

    async def around(client: Any, **query: Any) -> list[tuple[str, int]]:
        found = await client.FindNearbyAccounts(**query)
        return [(place.account.display_name, round(place.distance)) for place in found.places]

    circle = {"latitude": BUND[0], "longitude": BUND[1]}
    assert await around(customer.sales1, **circle) == [
        ("外滩灯具有限公司", 0),
        ("外滩邻居茶叶有限公司", 3336),
    ]
    assert len(await around(customer.sales1, **circle, radius=7000)) == 3
    box = {"south": 31.26, "west": 121.4, "north": 31.35, "east": 121.5}
    assert [name for name, _ in await around(customer.manager, **box)] == [
        "外滩远方船务有限公司",
        "外滩邻居茶叶有限公司",
    ]
    assert not await around(customer.sales2, **circle)
    more = await customer.sales1.FindNearbyAccounts(**circle, pageSize=1)
    assert (len(more.places), more.more) == (1, True)
    # A point tapped on a Chinese map is kept as satellites say.
    tapped = to_gcj(*BUND)
    moved = await customer.sales1.PinAccount(
        name=near.name, latitude=tapped[0], longitude=tapped[1], datum="GCJ02"
    )
    assert metres((moved.pin.latitude, moved.pin.longitude), BUND) < 0.2
    for wrong in ({"latitude": 91, "longitude": 1}, {}, {**circle, "radius": 10**7}, {**box, "south": 40}):
        with pytest.raises(Refused) as refused:
            await around(customer.sales1, **wrong)
        assert refused.value.reason == "VALIDATION"


@pytest.mark.capability("c.geo")
async def test_near_is_found_by_cells_and_not_by_scanning(customer: Service) -> None:
    person = customer.person("sales2")
    async with customer.running.sessions() as session:
        await enter(session, system("customer"))
        scope = {"owner": person.employee, "department": person.department}
        ids = await session.scalars(
            text(
                "INSERT INTO accounts (id, display_name, kind, state, owner, department, create_time, update_time, version)"
                " SELECT gen_random_uuid(), '地图' || n, 'COMPANY', 'ACTIVE', :owner, :department, now(), now(), 1"
                " FROM generate_series(1, 20000) n RETURNING id"
            ),
            scope,
        )
        chance = random.Random(2)
        rows = []
        for key in ids:
            at = (chance.uniform(22, 45), chance.uniform(85, 125))
            rows.append({"account": key, "cell": geo.cell(*at), "latitude": at[0], "longitude": at[1]})
        await session.execute(
            text("INSERT INTO account_pins VALUES (:account, :cell, :latitude, :longitude)"), rows
        )
        await session.execute(text("ANALYZE account_pins"))
        caller = customer.running.directory.explained(customer.person("admin").employee)
        call: Any = type("Asking", (), {"caller": caller})()
        around = geo.box_around(30.0, 110.0, 5000)
        statement = places.near_statement(around, (30.0, 110.0), 5000, 100, call)
        connection = await session.connection()
        compiled = statement.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
        values = tuple(compiled.params[name] for name in compiled.positiontup)
        plan = "\n".join(row[0] for row in await connection.exec_driver_sql(f"EXPLAIN {compiled}", values))
        await session.rollback()
    assert "account_pins_cell_index" in plan, plan
    assert "Seq Scan" not in plan, plan
    assert Account.__tablename__ in plan


@pytest.mark.capability("c.geo")
async def test_the_geocoder_pins_by_the_address_but_never_over_a_pin_by_hand(
    customer: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    gazetteer = tmp_path / "gazetteer.csv"
    gazetteer.write_text("code,latitude,longitude\n310115,31.2214,121.5447\n3301,30.2741,120.1551\n", "utf-8")
    settings = customer.running.settings.model_copy(update={"gazetteer_file": str(gazetteer)})
    monkeypatch.setattr(customer.running, "settings", settings)

    async def account(name: str, code: str) -> str:
        address = {"country": "CN", "divisionCode": code, "line": "张江路 1 号"}
        return (
            await customer.sales1.CreateAccount(account={"displayName": name, "addresses": [address]})
        ).name

    district = await customer.sales1.GeocodeAccount(name=await account("地名浦东机床有限公司", "310115"))
    assert (district.pin.latitude, district.pin.precision, district.pin.source) == (
        31.2214,
        "DISTRICT",
        "GEOCODER",
    )
    city = await customer.sales1.GeocodeAccount(name=await account("地名杭州丝绸有限公司", "330106"))
    assert city.pin.precision == "CITY"
    with pytest.raises(Refused) as refused:
        await customer.sales1.GeocodeAccount(name=await account("地名无名山货有限公司", "659001"))
    assert refused.value.reason == "ADDRESS_NOT_FOUND"
    await customer.sales1.PinAccount(name=district.name, latitude=31.2, longitude=121.6)
    with pytest.raises(Refused) as refused:
        await customer.sales1.GeocodeAccount(name=district.name)
    assert refused.value.reason == "PIN_IS_MANUAL"
    assert (await customer.sales1.GetAccount(name=district.name)).pin.longitude == 121.6
