"""Accounts through the front door."""

import pytest
from crm.customer.v1 import pb
from crmkit.testing import Refused, Service


async def test_a_name_and_a_phone_are_enough_for_a_new_customer(customer: Service) -> None:
    account = await customer.sales1.CreateAccount(
        account={"displayName": "快录机械厂", "phones": [{"number": "138 0013 8000"}]}
    )
    assert account.number.startswith("C-")
    assert account.owner == customer.person("sales1").employee
    assert account.department == customer.person("sales1").department
    assert account.phones[0].number == "+8613800138000"
    assert account.completeness < 40
    assert account.state == pb.Account.ACTIVE
    assert account.etag == "1"


async def test_a_fragment_and_pinyin_find_the_customer(customer: Service) -> None:
    made = await customer.sales1.CreateAccount(account={"displayName": "寻觅光电科技有限公司"})
    for q in ("觅光", "xunmi", "xmgd", made.number):
        found = await customer.sales1.ListAccounts(q=q)
        assert made.name in [account.name for account in found.accounts], q
    assert not (await customer.sales2.ListAccounts(q="觅光")).accounts


async def test_another_persons_customer_does_not_exist(customer: Service) -> None:
    made = await customer.sales1.CreateAccount(account={"displayName": "隐形材料有限公司"})
    with pytest.raises(Refused) as refused:
        await customer.sales2.GetAccount(name=made.name)
    assert refused.value.reason == "NOT_FOUND"
    assert (await customer.manager.GetAccount(name=made.name)).name == made.name


async def test_the_same_customer_twice_is_a_collision(customer: Service) -> None:
    await customer.sales1.CreateAccount(account={"displayName": "北京撞车科技有限责任公司"})
    with pytest.raises(Refused) as refused:
        await customer.sales2.CreateAccount(account={"displayName": "撞车科技（北京）有限公司"})
    assert refused.value.reason == "ACCOUNT_COLLISION"
    answer = await customer.sales2.CheckAccountCollision(account={"displayName": "撞车科技（北京）有限公司"})
    assert answer.hits[0].level == "STRONG"
    assert not answer.hits[0].display_name
    assert not answer.hits[0].account


async def test_a_client_may_name_what_it_makes_but_only_once(customer: Service) -> None:
    name = "accounts/0190aaaa-0000-7000-8000-00000000beef"
    made = await customer.sales1.CreateAccount(account={"name": name, "displayName": "自带编号的公司"})
    assert made.name == name
    with pytest.raises(Refused) as refused:
        await customer.sales1.CreateAccount(account={"name": name, "displayName": "同一编号的别家"})
    assert refused.value.reason == "ALREADY_EXISTS"
    with pytest.raises(Refused) as refused:
        await customer.sales1.CreateAccount(account={"name": "contacts/1", "displayName": "编号不对的公司"})
    assert refused.value.violations == {"account.name": "WRONG_FORMAT"}
