"""Implements crm.orders.v1.OrdersService."""

from typing import Any

from crm.orders.v1 import pb
from crmkit.call import Call
from crmkit.standard import Standard

from orders.model.contract import Contract
from orders.model.delivery import Delivery
from orders.model.order import Order


class OrdersService:
    """Contracts, orders and deliveries."""

    contracts = Standard(Contract)
    orders = Standard(Order)
    deliveries = Standard(Delivery)

    async def CreateOrderFromContract(self, request: Any, call: Call) -> Order:
        contract = await call.load(Contract, request)
        return await call.add(
            Order(account=contract.account, currency=contract.currency, contract=contract.name)
        )

    async def AwaitOrder(self, request: pb.ReasonRequest, call: Call) -> Order:
        order = await call.load(Order, request)
        order.wait(request.reason, call)
        return order
