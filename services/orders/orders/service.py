"""Implements crm.orders.v1.OrdersService."""

from datetime import UTC
from typing import Any

from crm.orders.v1 import pb
from crmkit.call import Call
from crmkit.mapping import read_date
from crmkit.standard import Standard

from orders.model.contract import Contract
from orders.model.delivery import Delivery
from orders.model.order import Order


class OrdersService:
    """Contracts, orders and deliveries."""

    contracts = Standard(Contract)
    orders = Standard(Order)
    deliveries = Standard(Delivery)

    async def SubmitContract(self, request: Any, call: Call) -> Contract:
        contract = await call.load(Contract, request)
        await contract.submit(call)
        return contract

    async def ReturnContractToDraft(self, request: pb.ReasonRequest, call: Call) -> Contract:
        contract = await call.load(Contract, request)
        contract.return_to_draft(request.reason)
        return contract

    async def ApproveContract(self, request: Any, call: Call) -> Contract:
        contract = await call.load(Contract, request)
        contract.approve()
        return contract

    async def SignContract(self, request: pb.SignContractRequest, call: Call) -> Contract:
        contract = await call.load(Contract, request)
        contract.sign(read_date(request.sign_date), request.counterparty_signatory, call)
        return contract

    async def ActivateContract(self, request: Any, call: Call) -> Contract:
        contract = await call.load(Contract, request)
        await contract.activate(call)
        return contract

    async def SuspendContract(self, request: pb.ReasonRequest, call: Call) -> Contract:
        contract = await call.load(Contract, request)
        contract.suspend(request.reason, call)
        return contract

    async def ResumeContract(self, request: Any, call: Call) -> Contract:
        contract = await call.load(Contract, request)
        contract.resume(call)
        return contract

    async def TerminateContract(self, request: pb.TerminateContractRequest, call: Call) -> Contract:
        contract = await call.load(Contract, request)
        contract.terminate(request.reason, read_date(request.date), call)
        return contract

    async def StartClosingContract(self, request: Any, call: Call) -> Contract:
        contract = await call.load(Contract, request)
        contract.start_closing()
        return contract

    async def CloseContract(self, request: Any, call: Call) -> Contract:
        contract = await call.load(Contract, request)
        contract.close(call)
        return contract

    async def CancelContract(self, request: pb.ReasonRequest, call: Call) -> Contract:
        contract = await call.load(Contract, request)
        contract.cancel(request.reason, call)
        return contract

    async def CreateOrderFromContract(self, request: Any, call: Call) -> Order:
        contract = await call.load(Contract, request)
        return await call.add(
            Order(account=contract.account, currency=contract.currency, contract=contract.name)
        )

    async def SubmitOrder(self, request: Any, call: Call) -> Order:
        order = await call.load(Order, request)
        await order.submit(call)
        return order

    async def StartOrder(self, request: Any, call: Call) -> Order:
        order = await call.load(Order, request)
        order.start(call)
        return order

    async def AwaitOrder(self, request: pb.ReasonRequest, call: Call) -> Order:
        order = await call.load(Order, request)
        order.wait(request.reason, call)
        return order

    async def HoldOrder(self, request: pb.ReasonRequest, call: Call) -> Order:
        order = await call.load(Order, request)
        order.hold(request.reason, call)
        return order

    async def ResumeOrder(self, request: Any, call: Call) -> Order:
        order = await call.load(Order, request)
        order.resume(call)
        return order

    async def RequestCancelOrder(self, request: pb.ReasonRequest, call: Call) -> Order:
        order = await call.load(Order, request)
        order.request_cancel(request.reason, call)
        return order

    async def RefuseCancelOrder(self, request: pb.ReasonRequest, call: Call) -> Order:
        order = await call.load(Order, request)
        order.refuse_cancel(request.reason, call)
        return order

    async def AcceptCancelOrder(self, request: Any, call: Call) -> Order:
        order = await call.load(Order, request)
        order.accept_cancel(call)
        return order

    async def FinishCancelOrder(self, request: Any, call: Call) -> Order:
        order = await call.load(Order, request)
        order.finish_cancel(call)
        return order

    async def CancelOrder(self, request: pb.ReasonRequest, call: Call) -> Order:
        order = await call.load(Order, request)
        order.cancel(request.reason, call)
        return order

    async def ReadyDelivery(self, request: Any, call: Call) -> Delivery:
        delivery = await call.load(Delivery, request)
        await delivery.ready(call)
        return delivery

    async def ShipDelivery(self, request: pb.ShipDeliveryRequest, call: Call) -> Delivery:
        delivery = await call.load(Delivery, request)
        delivery.ship(request.carrier, request.tracking, call)
        return delivery

    async def ConfirmDelivery(self, request: pb.ConfirmDeliveryRequest, call: Call) -> Delivery:
        delivery = await call.load(Delivery, request)
        time = request.signed_time.ToDatetime(UTC) if request.HasField("signed_time") else None
        await delivery.confirm(request.received, request.signatory, time, call)
        return delivery

    async def CancelDelivery(self, request: pb.ReasonRequest, call: Call) -> Delivery:
        delivery = await call.load(Delivery, request)
        await delivery.cancel(request.reason, call)
        return delivery
